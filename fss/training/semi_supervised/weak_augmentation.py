"""Weak augmentation of pictures and class maps: random scaling, cropping and mirroring."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, UInt8
from fss.training.semi_supervised.config import WeakConfig


class WeakView(NamedTuple):
    """The weak augmentation of one picture."""

    scale: float
    """Factor of both sides."""
    top: float
    """Vertical position of the crop, from 0 (top) to 1 (bottom)."""
    left: float
    """Horizontal position of the crop, from 0 (left) to 1 (right)."""
    mirror: bool
    """Whether the crop is mirrored horizontally."""


def draw_weak(rng: np.random.Generator, config: WeakConfig) -> WeakView:
    """Draw the weak augmentation of a picture."""
    low, high = config.scales
    scale = low + 0.1 * int(rng.integers(round((high - low) / 0.1) + 1))
    top, left = rng.random(2)
    return WeakView(scale=scale, top=float(top), left=float(left), mirror=bool(rng.random() < config.mirror))


def apply_weak(rgb: NDArray[np.uint8], view: WeakView, crop: tuple[int, int]) -> NDArray[np.uint8]:
    """Augment a picture, uint8 [H,W,3]; the result has the height and width ``crop``, with a black margin if needed."""
    return np.asarray(_apply(rgb, view, crop, cv2.INTER_LINEAR, 0), np.uint8)


def apply_weak_to_labels(labels: UInt8, view: WeakView, crop: tuple[int, int]) -> UInt8:
    """Augment a class map, uint8 [H,W], in the same way; the margin is 255 (ignored)."""
    return np.asarray(_apply(labels, view, crop, cv2.INTER_NEAREST_EXACT, IGNORE), np.uint8)


def _apply(
    values: NDArray[np.uint8], view: WeakView, crop: tuple[int, int], interpolation: int, margin: int
) -> NDArray[np.uint8]:
    if view.scale != 1:
        height, width = (max(1, round(side * view.scale)) for side in values.shape[:2])
        values = np.asarray(cv2.resize(values, (width, height), interpolation=interpolation), np.uint8)
    top, left = (
        round(position * max(0, side - crop_side))
        for position, side, crop_side in zip((view.top, view.left), values.shape[:2], crop, strict=True)
    )
    values = values[top : top + crop[0], left : left + crop[1]]
    padding = [(0, crop_side - side) for side, crop_side in zip(values.shape[:2], crop, strict=True)]
    if any(after for _, after in padding):
        values = np.pad(values, [*padding, *[(0, 0)] * (values.ndim - 2)], constant_values=margin)
    return np.ascontiguousarray(values[:, ::-1] if view.mirror else values)
