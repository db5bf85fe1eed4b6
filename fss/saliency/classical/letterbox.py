"""Solid frames (letterbox bars, passe-partouts), which would be mistaken for the background."""

import numpy as np

from fss.core.arrays import Rgb


def inner_box(rgb: Rgb, *, tolerance: int = 10, deepest: float = 0.4) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of the picture inside its solid frame; the whole picture where there is none.

    A frame ends at once along most of a side. A plain backdrop does not: where it ends, only the object differs from
    it, so an object on white paper keeps its paper.

    Args:
        rgb: uint8 [H,W,3].
        tolerance: how far a frame's pixel may be from the frame's colour, per channel.
        deepest: share of a side that a bar may take.
    """
    top, bottom = _bar(rgb, tolerance, deepest), _bar(rgb[::-1], tolerance, deepest)
    columns = rgb.transpose(1, 0, 2)
    left, right = _bar(columns, tolerance, deepest), _bar(columns[::-1], tolerance, deepest)
    return top, rgb.shape[0] - bottom, left, rgb.shape[1] - right


def _bar(rows: Rgb, tolerance: int, deepest: float) -> int:
    """Thickness of the bar along the first row."""
    colour = np.median(rows[0], axis=0)
    limit = int(deepest * len(rows))
    for depth in range(limit + 1):
        off = (np.abs(rows[depth] - colour) > tolerance).any(axis=1).mean()
        if off > 0.02:
            return depth if off > 0.6 else 0
    return 0
