"""Detection of solid frames (letterbox bars, passe-partouts), which the cues would take for background."""

import numpy as np

from fss.core.arrays import Rgb


def inner_box(rgb: Rgb, *, tolerance: int = 10, deepest: float = 0.4) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of the image inside its solid frame, in pixels; all of it without a frame.

    A frame ends in the same row along most of a side. A plain backdrop does not: in the first row that differs, only
    the object does, so an object on white paper keeps its backdrop.

    Args:
        rgb: uint8 [H,W,3].
        tolerance: largest difference of a frame's pixel from the frame's colour, per channel.
        deepest: largest share of a side that a bar may cover.
    """
    top, bottom = _bar(rgb, tolerance, deepest), _bar(rgb[::-1], tolerance, deepest)
    columns = rgb.transpose(1, 0, 2)
    left, right = _bar(columns, tolerance, deepest), _bar(columns[::-1], tolerance, deepest)
    return top, rgb.shape[0] - bottom, left, rgb.shape[1] - right


def _bar(rows: Rgb, tolerance: int, deepest: float) -> int:
    """Return the thickness of the bar at the first row, in pixels."""
    colour = np.median(rows[0], axis=0)
    limit = int(deepest * len(rows))
    for depth in range(limit + 1):
        off = (np.abs(rows[depth] - colour) > tolerance).any(axis=1).mean()
        if off > 0.02:
            return depth if off > 0.6 else 0
    return 0
