"""Photographs of a red disc, and a segmenter that finds it, for the page of `fss app`."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fss.core.arrays import BoolArray
from fss.models import FewShotSegmenter, create_segmenter

CENTRES = {"a.jpg": (30, 40), "b.jpg": (60, 50), "c.jpg": (45, 70), "folder/d.jpg": (40, 30)}
"""Row and column of the disc by the name of the photograph."""
HEIGHT, WIDTH = 96, 120
RADIUS = 14


def paint_photographs(folder: Path) -> None:
    """Write four photographs of a red disc on green, ``none.jpg`` without one, and ``broken.jpg``, which is cut off."""
    rng = np.random.default_rng(0)
    for name, centre in {**CENTRES, "none.jpg": None}.items():
        pixels = np.full((HEIGHT, WIDTH, 3), (60, 120, 60), np.uint8)
        pixels += rng.integers(0, 20, pixels.shape, np.uint8)
        if centre is not None:
            pixels[disc(centre)] = (200, 30, 40)
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(folder / name, quality=95)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])


def disc(centre: tuple[int, int]) -> BoolArray:
    """Return the pixels of the disc, bool [H,W]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < RADIUS**2)


def small_segmenter() -> FewShotSegmenter:
    """Return the learner ``density`` on a small network of random weights, which are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_segmenter(learner="density", backbone="timm:test_resnet.r160_in1k", image_size=96)
