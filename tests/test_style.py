"""The style rules that a machine can check: linting, types, layers, and imports without side effects."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(*command: str) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", ".")


def test_ruff_format_changes_nothing() -> None:
    run("ruff", "format", "--check", ".")


def test_mypy_strict_finds_nothing() -> None:
    run("mypy")


MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "fss").rglob("*.py") if path.name != "__init__.py")


def test_layers_import_downwards_only() -> None:
    result = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_the_library_imports_no_ray_mlflow_or_boto3() -> None:
    modules = ", ".join(".".join(path.with_suffix("").parts) for path in MODULES)
    code = f"import sys, {modules}; print([m for m in ('ray', 'mlflow', 'boto3') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_no_library_module_is_longer_than_it_should_be() -> None:
    long = {str(path): n for path in MODULES if (n := len((ROOT / path).read_text().splitlines())) > 320}
    assert not long, f"split these: {long}"


UNPICKLING = re.compile(
    r"pickle\.loads?\(|Unpickler\b|get_pickled_error|torch\.load\(|joblib|\bdill\b|marshal\.load|shelve|read_pickle"
    r"|allow_pickle|yaml\.(load|full_load|unsafe_load)|Tuner\.restore|Result\.from_path|ExperimentAnalysis"
)
SAFE = {
    "fss/models/weights/reading.py": {'content = torch.load(file, map_location="cpu", weights_only=True)'},
    # Its find_class refuses every class.
    "fss/episodes/published_lists.py": {
        "content = _PlainUnpickler(io.BytesIO(_read(uri))).load()",
        "class _PlainUnpickler(pickle.Unpickler):",
    },
    # Blocks of Ray's object store, which this job packed.
    "pipelines/training/ray_stream.py": {"queues.add(lane, pickle.loads(tasks.as_buffer()), source)"},
    # A file of the temporary folder that this job made for Tune.
    "pipelines/tuning/callbacks.py": {"reason = logged or why(trial.get_pickled_error() or trial.get_error())"},
}
"""Lines that read pickles, none of them from a folder that a user names, or without running what is in them."""


def test_nothing_runs_the_pickles_of_a_folder_that_a_user_names() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted([*(ROOT / "fss").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]):
        lines = [line.split("  #")[0].strip() for line in path.read_text().splitlines()]
        if reading := {line for line in lines if UNPICKLING.search(line) and not line.startswith(("#", '"""'))}:
            found[str(path.relative_to(ROOT))] = reading
    assert found == SAFE
