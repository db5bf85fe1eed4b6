"""Configuration modules are light, and what the plain distribution promises runs without the packages of any extra."""

import json
import subprocess
import sys
from pathlib import Path

from tests.test_dependencies import modules_of_extras

CONFIGS = (
    "fss.models.config",
    "fss.models.semantic.config",
    "fss.episodes.config",
    "fss.training.few_shot.config",
    "fss.training.semi_supervised.config",
    "fss.saliency.config",
    "fss.relabel.config",
    "fss.collection.config",
    "fss.images.limits",
)
HEAVY = ("torch", "torchvision", "ray", "mlflow", "cv2", "scipy", "numba", "matplotlib", "PIL")

LIGHT = f"""
import importlib, sys
for name in {CONFIGS!r}:
    importlib.import_module(name)
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    assert not heavy, f"{{name}} imports {{heavy}}"
"""

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py") if path.stem != "__init__")


def run(*words: str) -> str:
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_configuration_modules_are_light() -> None:
    run("-c", LIGHT)


def test_the_plain_distribution_predicts_and_says_what_else_to_install(tmp_path: Path) -> None:
    """In a process that finds no package of any extra."""
    absent = ",".join(modules_of_extras())
    answers = json.loads(run("-m", "tests.helpers.plain_install", absent, str(tmp_path), *JOBS))
    assert answers.pop("prediction") == [0, ""]
    assert (tmp_path / "masks/masks.csv").exists()
    install = dict.fromkeys(map("pipelines.{}".format, JOBS), "cluster,track")
    install |= {"pipelines.tune": "cluster,track,tune", "pipelines.relabel": "cluster,track,relabel"}
    install |= {
        "app": "app",
        "push": "hub",
        "sync": "track",
        "hf://user/name": "hub",
        "models:/name/1": "track",
        "backbone": "timm",
    }
    assert {name for name, (code, _) in answers.items() if code} == install.keys()
    for name, extras in install.items():
        code, line = answers[name]
        assert (code, line.count("\n")) == (2, 0)
        assert line.endswith(f"not installed. Install with: pip install 'fss-masks[{extras}]'"), line
