"""The house rules that a machine can check: linting, types, floors, and imports without side effects."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A room may import rooms of the floors below it and of its own floor, never above.
FLOORS = [
    {"draws", "config", "privacy"},
    {"collection"},
    {"models", "episodes"},
    {"saliency"},
    {"training", "relabel", "evaluation"},
    {
        "inputs",
        "model_files",
        "predict",
        "export",
        "environment",
        "lineage",
        "tracking",
        "figures",
        "serving",
        "cli",
        "commands",
        "console",
        "exits",
    },
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def run(*command: str) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", ".")


def test_ruff_format_changes_nothing() -> None:
    run("ruff", "format", "--check", ".")


def test_mypy_strict_finds_nothing() -> None:
    run("mypy")


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "fss" and len(parts) > 1 and parts[1] in FLOOR_OF else None


MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "fss").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_module_imports_a_higher_floor(path: Path) -> None:
    room = path.parts[1].removesuffix(".py")
    assert room in FLOOR_OF, f"{path}: give the room {room} its floor in this test"
    rooms = {room_of(module) for module in imported_modules(ROOT / path)} - {None}
    above = {other for other in rooms if other is not None and FLOOR_OF[other] > FLOOR_OF[room]}
    assert not above, f"{path} imports from a higher floor: {sorted(above)}"
    assert not {name for name in imported_modules(ROOT / path) if name.split(".")[0] == "pipelines"}


def test_importing_the_library_imports_no_ray_mlflow_or_boto3() -> None:
    modules = ", ".join(".".join(path.with_suffix("").parts) for path in MODULES)
    code = f"import sys, {modules}; print([m for m in ('ray', 'mlflow', 'boto3') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_no_library_module_is_longer_than_it_should_be() -> None:
    long = {str(path): n for path in MODULES if (n := len((ROOT / path).read_text().splitlines())) > 320}
    assert not long, f"split these: {long}"
