"""Where the values of a label picture occur: inside areas, or only on edges between other values."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SHARE_BETWEEN = 0.95  # of the pixels in question
_OVERSHOOT = 0.2  # of an edge's height; sharp interpolation such as Lanczos' goes beyond the values of both sides
_MANY = 64  # more values without an area are a photograph
_SINGLE = 0.1  # share of pixels without an equal neighbour; noise has more, and thin objects have almost none


def has_interior(values: NDArray[Any], level: int) -> bool:
    """Return whether 3 x 3 pixels of one value exist in a label picture, integers [H, W]."""
    area = (values == level).astype(np.uint8)
    return bool(cv2.erode(area, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1).any())


def adjoins(values: NDArray[Any], level: int, other: int) -> bool:
    """Return whether most pixels of one value lie in areas that another value touches."""
    _, areas = cv2.connectedComponents((values == level).astype(np.uint8))
    beside = cv2.dilate((values == other).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    sizes = np.bincount(areas.ravel())[1:]
    touched = np.unique(areas[beside & (areas > 0)]) - 1
    return bool(2 * sizes[touched].sum() >= sizes.sum())


def lies_between_neighbours(values: NDArray[Any], levels: Sequence[int]) -> bool:
    """Return whether pixels of these levels lie strictly between the least and the greatest value beside them.

    Interpolation gives such pixels; thin objects of a class do not, except by chance.
    """
    wide = values.astype(np.float32)
    window = np.ones((5, 5), np.uint8)
    between = (cv2.erode(wide, window) < wide) & (wide < cv2.dilate(wide, window))
    return bool(between[np.isin(values, levels)].mean() >= _SHARE_BETWEEN)


def is_noise(values: NDArray[Any], levels: Sequence[int]) -> bool:
    """Return whether pixels of these levels are scattered along edges, and go little beyond the values beside them.

    Sharp interpolation and JPEG give such pixels.
    """
    wide, rare = values.astype(np.float32), np.isin(values, levels)
    single = np.ones(values.shape, bool)
    for axis in (0, 1):
        equal = np.diff(wide, axis=axis) == 0
        single &= ~np.insert(equal, 0, False, axis=axis) & ~np.insert(equal, equal.shape[axis], False, axis=axis)
    if single[rare].mean() < _SINGLE:
        return False
    window = np.ones((17, 17), np.uint8)  # JPEG's blocks have 8 x 8 pixels
    low = cv2.erode(np.where(rare, np.float32(1e6), wide), window)
    high = cv2.dilate(np.where(rare, np.float32(-1e6), wide), window)
    margin = _OVERSHOOT * (high - low)
    near = (low - margin <= wide) & (wide <= high + margin) & (low < high)
    if len(levels) > _MANY:
        near |= low > high  # no area is near
    return bool(near[rare].mean() >= _SHARE_BETWEEN)
