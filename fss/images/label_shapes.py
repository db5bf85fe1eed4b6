"""Where the values of a label picture occur: inside areas, or only on edges between other values."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SHARE_BETWEEN = 0.95  # of the pixels in question


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
