"""Weak augmentation of pictures with class maps: a scale, a crop, a mirror."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, UInt8
from fss.training.semi_supervised.config import WeakConfig


class WeakView(NamedTuple):
    """How one picture is seen."""

    scale: float
    top: float
    """Place of the crop, 0 at the top to 1 at the bottom."""
    left: float
    mirror: bool


def draw_weak(rng: np.random.Generator, config: WeakConfig) -> WeakView:
    """Draw a view."""
    low, high = config.scales
    scale = low + 0.1 * int(rng.integers(round((high - low) / 0.1) + 1))
    top, left = rng.random(2)
    return WeakView(scale=scale, top=float(top), left=float(left), mirror=bool(rng.random() < config.mirror))


def apply_weak(rgb: NDArray[np.uint8], view: WeakView, crop: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the crop of a picture [H, W, 3]; the margin is black."""
    return np.asarray(_see(rgb, view, crop, cv2.INTER_LINEAR, 0), np.uint8)


def apply_weak_to_labels(labels: UInt8, view: WeakView, crop: tuple[int, int]) -> UInt8:
    """Return the same crop of a class map [H, W]; the margin is ignored."""
    return np.asarray(_see(labels, view, crop, cv2.INTER_NEAREST_EXACT, IGNORE), np.uint8)


def _see(
    values: NDArray[np.uint8], view: WeakView, crop: tuple[int, int], interpolation: int, margin: int
) -> NDArray[np.uint8]:
    if view.scale != 1:
        height, width = (max(1, round(side * view.scale)) for side in values.shape[:2])
        values = np.asarray(cv2.resize(values, (width, height), interpolation=interpolation), np.uint8)
    top, left = (
        round(place * max(0, side - wanted))
        for place, side, wanted in zip((view.top, view.left), values.shape[:2], crop, strict=True)
    )
    values = values[top : top + crop[0], left : left + crop[1]]
    missing = [(0, wanted - side) for side, wanted in zip(values.shape[:2], crop, strict=True)]
    if any(after for _, after in missing):
        values = np.pad(values, [*missing, *[(0, 0)] * (values.ndim - 2)], constant_values=margin)
    return np.ascontiguousarray(values[:, ::-1] if view.mirror else values)
