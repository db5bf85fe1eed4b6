"""Where the values of a label picture occur: inside areas, or as steps between other values."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_MANY = 64  # more values are a photograph, which need not have areas
_LEAST_JUMP = 3  # difference of the values at a border
_LONGEST_STEP = 2  # pixels of a value between a lower and a higher one
_LINES = 512  # rows or columns, and up to twice as many
_STEPS = 0.2  # share of the borders with such a step that interpolation exceeds, and thin objects do not
_STEP_VALUES = 3  # different values of steps; an outline between an object and its background has one


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


def step_values(values: NDArray[Any]) -> list[int]:
    """Return the values through which a label picture steps from one value to another, the most frequent first.

    Interpolation and JPEG put one or two pixels between a lower and a higher value at most borders of areas, along a
    row or a column. Thin objects do so by chance, at a tenth of the borders in CamVid's masks. If the share is not
    surely above that of thin objects, no value is returned. In large pictures it counts in some rows and columns alone.

    Args:
        values: integers [H, W], at least 0.
    """
    steps, jumps = [], 0
    photograph = np.count_nonzero(np.bincount(values.ravel())) > _MANY
    for lines in (values, values.T):
        some = lines[:: max(1, len(lines) // _LINES)].astype(np.int32)
        line = np.pad(some, ((0, 0), (0, 1)), constant_values=-1).ravel()  # -1 ends each line
        starts = np.flatnonzero(np.insert(np.diff(line) != 0, 0, True))
        runs, lengths = line[starts], np.diff(starts, append=line.size)
        before, middle, after = runs[:-2], runs[1:-1], runs[2:]
        short = lengths <= _LONGEST_STEP
        beside_area = photograph | ~(short[:-1] & short[1:])
        border = (runs[:-1] >= 0) & (runs[1:] >= 0) & beside_area & (abs(np.diff(runs)) >= _LEAST_JUMP)
        step = (before >= 0) & (middle >= 0) & (after >= 0) & short[1:-1] & (beside_area[:-1] | beside_area[1:])
        step &= ((middle - before) * (after - middle) > 0) & (abs(after - before) >= _LEAST_JUMP)
        steps.append(middle[step])
        jumps += int(border.sum())
    found = np.concatenate(steps)
    levels, counts = np.unique(found, return_counts=True)
    if len(levels) < _STEP_VALUES:
        return []
    borders = len(found) + jumps
    share = len(found) / borders
    if share - 2 * (share * (1 - share) / borders) ** 0.5 <= _STEPS:
        return []
    return [int(level) for level in levels[np.argsort(-counts, kind="stable")]]
