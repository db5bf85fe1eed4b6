"""The mask of one photograph as a person draws it: hints, from which a mask is made, and pixels painted by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from fss.core.arrays import Rgb, UInt8
from fss.images.mask_codec import decode_mask
from fss.inference.prompts import Prompt, prompted_mask

Tool = Literal["box", "click", "beside", "stroke", "paint", "erase"]
"""box, click and stroke mark the object around or under them, beside is a click next to it; paint and erase change
exactly the pixels under the brush."""
HINTS: tuple[Tool, ...] = ("box", "click", "beside", "stroke")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One gesture."""

    tool: Tool
    """What it means."""
    points: Sequence[tuple[float, float]]
    """Columns and rows in pixels of the photograph: two corners of a box, one point of a click, the path of a brush."""
    width: float = 1.0
    """Width of the brush in pixels of the photograph."""


@dataclass(kw_only=True)
class Drawing:
    """The marks of one object in a photograph."""

    start: bytes | None = None
    """Mask that the marks correct, PNG; None starts empty."""
    marks: list[Mark] = field(default_factory=list)
    """Marks in their order."""
    notes: tuple[str, ...] = ()
    """What the person should know about the mask, one sentence each."""
    _followed: "_Followed | None" = None

    def mask(self, rgb: Rgb) -> UInt8:
        """Return the mask, uint8 [H,W] in {0,1}.

        Args:
            rgb: the photograph, uint8 [H,W,3].

        Raises:
            ValueError: the hints contradict each other, or lie outside of the photograph.
        """
        mask = np.zeros(rgb.shape[:2], np.uint8) if self.start is None else decode_mask(self.start)
        hints = tuple(mark for mark in self.marks if mark.tool in HINTS)
        if self._followed is None or self._followed.hints != hints:  # the hints take longer than the brush
            self._followed = _follow_hints(rgb, hints, corrects=self.start is not None)
        mask = mask & ~self._followed.beside | self._followed.mask
        self.notes = self._followed.notes
        for mark in self.marks:
            if mark.tool in ("paint", "erase"):
                _brush(mask, mark, 1 if mark.tool == "paint" else 0)
        return mask


@dataclass(frozen=True, kw_only=True)
class _Followed:
    """What hints mean."""

    hints: tuple[Mark, ...]
    mask: UInt8
    """What they mark, uint8 [H,W] in {0,1}."""
    beside: UInt8
    """The objects beside it, which the mask that the marks correct loses, uint8 [H,W] in {0,1}."""
    notes: tuple[str, ...]


def _follow_hints(rgb: Rgb, hints: tuple[Mark, ...], *, corrects: bool) -> _Followed:
    """Make the masks of boxes, clicks and strokes, and of what lies beside the object."""
    nothing = np.zeros(rgb.shape[:2], np.uint8)
    clicks, others = ([_pixel(mark) for mark in hints if mark.tool == tool] for tool in ("click", "beside"))
    beside = nothing
    if others and corrects:
        beside = prompted_mask(rgb, Prompt(points=others, not_points=clicks)).mask
    if len(others) == len(hints):
        return _Followed(hints=hints, mask=nothing, beside=beside, notes=())
    strokes = [mark for mark in hints if mark.tool == "stroke"]
    on: UInt8 | None = None
    if strokes:
        on = np.zeros(rgb.shape[:2], np.uint8)
        for mark in strokes:
            _brush(on, mark, 1)
    prompt = Prompt(
        boxes=[_box(mark) for mark in hints if mark.tool == "box"],
        points=clicks,
        not_points=others,
        strokes=on,
    )
    made = prompted_mask(rgb, prompt, on)
    return _Followed(hints=hints, mask=made.mask, beside=beside, notes=made.notes)


def _pixel(mark: Mark) -> tuple[int, int]:
    (x, y), *_ = mark.points
    return int(x), int(y)


def _box(mark: Mark) -> tuple[float, float, float, float]:
    (x, y), (other_x, other_y) = mark.points
    return min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)


def _brush(mask: UInt8, mark: Mark, value: int) -> None:
    """Draw the path of a brush into a mask."""
    path = np.rint(np.array(mark.points)).astype(np.int32)
    width = max(1, round(mark.width))
    cv2.polylines(mask, [path[:, None]], False, value, width)
    for x, y in (path[0].tolist(), path[-1].tolist()):
        cv2.circle(mask, (x, y), width // 2, value, -1)
