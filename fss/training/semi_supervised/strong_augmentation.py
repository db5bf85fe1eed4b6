"""Strong augmentation whose every move of a pixel is known, so that labels can follow.

A variant of RandAugment (Cubuk et al., NeurIPS 2020 Workshops) as the three-stage framework uses it: a few operations
drawn with replacement, each applied with a probability; then squares cut out of the picture alone, whose labels stay.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from fss.core.arrays import IGNORE, Int32, UInt8
from fss.training.semi_supervised.config import StrongConfig

T = TypeVar("T", bound=np.generic)
"""[H, W]: for each pixel the flat place it came from, -1 where it came from outside."""

ENHANCEMENTS = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = ("identity", "autocontrast", "equalize", "solarize", "posterize", *ENHANCEMENTS, *GEOMETRIC)
LEVELS = 10
CUTOUT_COLOUR = (124, 116, 104)
"""ImageNet's mean: 0 once the picture is normalised."""


@dataclass(frozen=True, kw_only=True)
class StrongPlan:
    """The changes of one picture."""

    steps: tuple[tuple[str, float], ...]
    """Name and strength of each operation that is applied; the strength lies within [-1, 1]."""
    cutouts: tuple[tuple[int, int, int], ...]
    """Top, left and side of each square, pixels."""


def draw_strong(rng: np.random.Generator, shape: tuple[int, int], config: StrongConfig) -> StrongPlan:
    """Draw the changes of a picture of some height and width."""
    steps = []
    for _ in range(config.operations):
        name = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        strength = float(rng.integers(1, LEVELS)) / LEVELS * float(rng.choice([-1, 1]))
        if rng.random() < config.probability:
            steps.append((name, strength))
    half = config.cutout_size // 2
    centres = [(int(rng.integers(shape[0])), int(rng.integers(shape[1]))) for _ in range(config.cutouts)]
    return StrongPlan(steps=tuple(steps), cutouts=tuple((y - half, x - half, config.cutout_size) for y, x in centres))


def apply_strong(picture: UInt8, plan: StrongPlan) -> tuple[UInt8, Int32]:
    """Change a picture [H, W, 3]; returns it with the place that each of its pixels came from."""
    height, width = picture.shape[:2]
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    for name, strength in plan.steps:
        if name in GEOMETRIC:
            moved = moved_index((height, width), name, strength)
            index = gather(index, moved, -1)
            picture = gather(picture, moved, 0)
        else:
            picture = _colour(picture, name, strength)
    picture = picture.copy()
    for top, left, side in plan.cutouts:
        picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = CUTOUT_COLOUR
    return picture, index


def moved_index(shape: tuple[int, int], name: str, strength: float) -> Int32:
    """Return where each pixel comes from when a picture of ``shape`` is moved by a geometric operation."""
    height, width = shape
    (a, b), (c, d), (down, right) = _motion(name, strength)
    ys, xs = np.mgrid[:height, :width].astype(np.float64)
    ys, xs = ys - (height - 1) / 2, xs - (width - 1) / 2
    rows = np.rint(a * ys + b * xs + down + (height - 1) / 2).astype(np.int32)
    columns = np.rint(c * ys + d * xs + right + (width - 1) / 2).astype(np.int32)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, rows * np.int32(width) + columns, np.int32(-1))


def gather(values: NDArray[T], index: Int32, outside: int) -> NDArray[T]:
    """Take the values [H, W, ...] that ``index`` names, and ``outside`` where it names none."""
    taken: NDArray[T] = values.reshape(-1, *values.shape[2:])[index.clip(0)]
    taken[index < 0] = outside
    return taken


def warp_labels(labels: Tensor, index: Tensor) -> Tensor:
    """Let labels follow a picture's moves.

    Args:
        labels: [B,H,W].
        index: long [B,H,W], see :data:`Int32`.

    Returns:
        [B,H,W], 255 where the picture shows what was outside before.
    """
    moved = labels.flatten(1).gather(1, index.flatten(1).clamp(min=0)).view_as(labels)
    return torch.where(index < 0, torch.full_like(moved, IGNORE), moved)


def _motion(name: str, strength: float) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Return the rows of the matrix from new to old (y, x) around the centre, and the shift, pixels."""
    if name == "rotate":
        cos, sin = math.cos(math.radians(30 * strength)), math.sin(math.radians(30 * strength))
        return (cos, -sin), (sin, cos), (0, 0)
    slope, shift = 0.3 * strength, round(10 * strength)
    return {
        "shear_x": ((1.0, 0.0), (slope, 1.0), (0.0, 0.0)),
        "shear_y": ((1.0, slope), (0.0, 1.0), (0.0, 0.0)),
        "translate_x": ((1.0, 0.0), (0.0, 1.0), (0.0, float(shift))),
        "translate_y": ((1.0, 0.0), (0.0, 1.0), (float(shift), 0.0)),
    }[name]


def _colour(picture: UInt8, name: str, strength: float) -> UInt8:
    image = Image.fromarray(picture)
    if name in ENHANCEMENTS:
        image = ENHANCEMENTS[name](image).enhance(1 + 0.9 * strength)
    elif name == "autocontrast":
        image = ImageOps.autocontrast(image)
    elif name == "equalize":
        image = ImageOps.equalize(image)
    elif name == "solarize":
        image = ImageOps.solarize(image, threshold=round(256 * (1 - abs(strength))))
    elif name == "posterize":
        image = ImageOps.posterize(image, 8 - round(4 * abs(strength)))
    else:
        assert name == "identity"
    return np.array(image)
