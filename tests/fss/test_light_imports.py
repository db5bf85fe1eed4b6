"""Configuration modules are light, and predicting needs no cluster, tracking or search library."""

import subprocess
import sys
from pathlib import Path

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

PREDICT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "mlflow", "optuna", "faiss"):
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import numpy as np
import fss
from fss.models import create_segmenter, save_checkpoint

network = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=96, width=32)
save_checkpoint(network, sys.argv[1])
picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
mask = np.zeros((40, 50), np.uint8)
mask[10:30, 10:30] = 1
prediction = fss.load_segmenter(sys.argv[1]).examples([picture], [mask]).predict(picture)
assert prediction.mask.shape == (40, 50)
import fss.inference.predictor
"""


def run(code: str, *words: str) -> None:
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_configuration_modules_are_light() -> None:
    run(LIGHT)


def test_predicting_needs_neither_ray_nor_mlflow_nor_optuna_nor_faiss(tmp_path: Path) -> None:
    run(PREDICT, str(tmp_path / "model"))
