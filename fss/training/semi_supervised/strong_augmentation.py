"""Strong augmentation that also returns where each pixel came from, so that labels can be warped in the same way.

It is the variant of RandAugment (Cubuk et al., NeurIPS 2020) of the three-stage framework: a few operations are drawn
with replacement, and each is applied with a probability. Then squares are cut out of the picture, but not out of the
labels. Strengths and the grey of uncovered pixels are those of the released code.

The tones of ST++ (Yang et al., CVPR 2022) may come before: changes of brightness, contrast, saturation and hue in a
random order, removal of the colours, and a blur.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from fss.core.arrays import IGNORE, Int32, UInt8
from fss.training.semi_supervised.config import StrongConfig

T = TypeVar("T", bound=np.generic)

ENHANCEMENTS = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = ("identity", "autocontrast", "equalize", "solarize", "posterize", *ENHANCEMENTS, *GEOMETRIC)
LEVELS = 10
GREY = 127
"""Red, green and blue of cutouts and of pixels that a geometric operation uncovers, as released."""
JITTER = {"brightness": 0.5, "contrast": 0.5, "color": 0.5}
"""Largest change of a tone, as a share of the tone; ST++ uses these and HUE."""
HUE = 0.25
"""Largest change of the hue, as a share of the circle."""


@dataclass(frozen=True, kw_only=True)
class StrongPlan:
    """The augmentation of one picture."""

    steps: tuple[tuple[str, float], ...]
    """Name and strength, within [-1, 1], of each operation."""
    cutouts: tuple[tuple[int, int, int], ...]
    """Top, left and side of each square, in pixels."""
    tones: tuple[tuple[str, float], ...] = ()
    """Name and value of each change of tone: a factor, the shift of the hue as a share of the circle, 0 for grey, or
    the standard deviation of the blur in pixels."""


def draw_strong(rng: np.random.Generator, shape: tuple[int, int], config: StrongConfig) -> StrongPlan:
    """Draw the augmentation of a picture; ``shape`` is its height and width in pixels."""
    steps = []
    for _ in range(config.operations):
        name = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        strength = float(rng.integers(1, LEVELS)) / LEVELS * float(rng.choice([-1, 1]))
        if rng.random() < config.probability:
            steps.append((name, strength))
    half = config.cutout_size // 2
    centres = [(int(rng.integers(shape[0])), int(rng.integers(shape[1]))) for _ in range(config.cutouts)]
    squares = tuple((y - half, x - half, config.cutout_size) for y, x in centres)
    return StrongPlan(steps=tuple(steps), cutouts=squares, tones=tuple(_draw_tones(rng, config)))


def _draw_tones(rng: np.random.Generator, config: StrongConfig) -> Iterator[tuple[str, float]]:
    if rng.random() < config.jitter:
        changes = [(name, float(rng.uniform(1 - most, 1 + most))) for name, most in JITTER.items()]
        changes.append(("hue", float(rng.uniform(-HUE, HUE))))
        yield from (changes[int(number)] for number in rng.permutation(len(changes)))
    if rng.random() < config.grey:
        yield "grey", 0.0
    if rng.random() < config.blur:
        yield "blur", float(rng.uniform(0.1, 2.0))


def apply_strong(picture: UInt8, plan: StrongPlan) -> tuple[UInt8, Int32]:
    """Augment a picture, uint8 [H,W,3].

    Returns:
        The picture, and an index [H,W] with the flat position that each pixel came from, or -1 if it came from outside.
    """
    height, width = picture.shape[:2]
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    for name, value in plan.tones:
        picture = _tone(picture, name, value)
    for name, strength in plan.steps:
        if name in GEOMETRIC:
            step_index = geometric_index((height, width), name, strength)
            index = gather(index, step_index, -1)
            picture = gather(picture, step_index, 0)
        else:
            picture = _colour(picture, name, strength)
    picture = picture.copy()
    picture[index < 0] = GREY
    for top, left, side in plan.cutouts:
        picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = GREY
    return picture, index


def geometric_index(shape: tuple[int, int], name: str, strength: float) -> Int32:
    """Return the index [H,W] of a geometric operation on a picture of this size; see :func:`apply_strong`."""
    height, width = shape
    (a, b), (c, d), (down, right) = _motion(name, strength)
    ys, xs = np.mgrid[:height, :width].astype(np.float64)
    ys, xs = ys - (height - 1) / 2, xs - (width - 1) / 2
    rows = np.rint(a * ys + b * xs + down + (height - 1) / 2).astype(np.int32)
    columns = np.rint(c * ys + d * xs + right + (width - 1) / 2).astype(np.int32)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, rows * np.int32(width) + columns, np.int32(-1))


def gather(values: NDArray[T], index: Int32, outside: int) -> NDArray[T]:
    """Return the values [H,W,...] at the flat positions ``index`` [H,W], and ``outside`` where the index is -1."""
    result: NDArray[T] = values.reshape(-1, *values.shape[2:])[index.clip(0)]
    result[index < 0] = outside
    return result


def warp_labels(labels: Tensor, index: Tensor) -> Tensor:
    """Warp labels like a picture.

    Args:
        labels: [B,H,W].
        index: long [B,H,W], the index that :func:`apply_strong` returned for each picture.

    Returns:
        [B,H,W], with 255 (ignored) where the index is -1.
    """
    return warp(labels, index, IGNORE)


def warp(values: Tensor, index: Tensor, outside: int) -> Tensor:
    """Warp values [B,H,W] or [B,C,H,W] like :func:`warp_labels`, with ``outside`` where the index is -1."""
    planes = values if values.ndim == 4 else values[:, None]
    flat = index[:, None].expand_as(planes).flatten(2)
    warped = planes.flatten(2).gather(2, flat.clamp(min=0)).masked_fill(flat < 0, outside)
    return warped.view_as(values)


def _motion(name: str, strength: float) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Return the rows of the matrix from new to old (y, x) around the centre, and the shift in pixels."""
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
        image = ENHANCEMENTS[name](image).enhance(0.1 + 1.8 * abs(strength))
    elif name == "autocontrast":
        image = ImageOps.autocontrast(image)
    elif name == "equalize":
        image = ImageOps.equalize(image)
    elif name == "solarize":
        image = ImageOps.solarize(image, threshold=256 - int(256 * abs(strength)))
    elif name == "posterize":
        image = ImageOps.posterize(image, 4 - int(4 * abs(strength)))
    else:
        assert name == "identity"
    return np.array(image)


def _tone(picture: UInt8, name: str, value: float) -> UInt8:
    if name == "blur":
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), value), np.uint8)
    if name == "hue":
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(256 * value) % 256)  # one byte is one turn
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)
    enhance = ImageEnhance.Color if name == "grey" else ENHANCEMENTS[name]
    return np.array(enhance(Image.fromarray(picture)).enhance(value))
