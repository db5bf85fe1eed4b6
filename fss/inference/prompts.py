"""Masks from prompts: boxes around an object, points on it and beside it, and strokes.

The mask of a box is the object inside it, and the mask of points or strokes is the object that they lie on. Both follow
the colours and edges of the picture (:mod:`fss.saliency.classical.prompted`). Several boxes are several objects, which
form one mask together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Union

import cv2
import numpy as np

from fss.core.arrays import BoolArray, UInt8

if TYPE_CHECKING:
    from fss.inference.inputs import PictureLike
    from fss.saliency.classical.prompted import Corners

_THIN = 0.01  # largest half width of a stroke, as a share of the diagonal
_OUTSIDE = 0.05  # by which share of a side a box may leave the picture without a note
_LONG = 20.0  # smallest area of a stroke in units of its half width squared; that of a disc is 3.1

Box = Sequence[float]
"""Left, top, right and bottom, in pixels of the picture."""
Point = Sequence[float]
"""Column and row, in pixels of the picture, from its upper left corner."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Hints from which the mask of a support is made."""

    boxes: Sequence[Box] = ()
    """Boxes, each around one object; the mask is the union of the objects."""
    points: Sequence[Point] = ()
    """Points on the object."""
    not_points: Sequence[Point] = ()
    """Points beside the object."""
    strokes: Union["PictureLike", UInt8] | None = None
    """Strokes over the object, a mask of the picture's size."""
    not_strokes: Union["PictureLike", UInt8] | None = None
    """Strokes beside the object, a mask of the picture's size."""
    filled: bool = False
    """Whether the whole inside of each box is the mask, instead of the object in it."""

    def __post_init__(self) -> None:
        for name, example in (("boxes", "(10, 20, 90, 80)"), ("points", "(50, 40)"), ("not_points", "(5, 5)")):
            values = getattr(self, name)
            try:
                object.__setattr__(self, name, tuple(map(tuple, values)))
            except TypeError:
                raise ValueError(f"{name} must be a list, such as [{example}], got {values}") from None
            if not all(isinstance(number, Real) for each in getattr(self, name) for number in each):
                raise ValueError(f"{name} must consist of numbers, such as [{example}], got {values}")
        if not self.boxes and not self.points and self.strokes is None:
            raise ValueError("a prompt must have a box, a point or a stroke on the object, got only what is beside it")
        if not isinstance(self.filled, bool | np.bool_):
            raise ValueError(f"filled must be True or False, got {self.filled!r}")
        if self.filled and not self.boxes:
            raise ValueError("filled is for boxes, but the prompt has none; give a box or leave filled out")

    def __str__(self) -> str:
        counts = ((len(self.boxes), "box", "boxes"), (len(self.points), "point", "points"))
        words = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
        words += ["strokes"] if self.strokes is not None else []
        beside = len(self.not_points) + (self.not_strokes is not None)
        return ", ".join([*words, *(["hints beside it"] if beside else [])])


@dataclass(frozen=True, kw_only=True)
class PromptedMask:
    """A mask that was made from a prompt."""

    mask: UInt8
    """uint8 [H,W] in {0,1}."""
    notes: tuple[str, ...] = ()
    """What the user should know about the mask, one sentence each."""


def prompted_mask(rgb: UInt8, prompt: Prompt, on: UInt8 | None = None, off: UInt8 | None = None) -> PromptedMask:
    """Make the mask of a prompt.

    Args:
        rgb: the picture, uint8 [H,W,3].
        prompt: the boxes and points; its strokes are ``on`` and ``off``.
        on: strokes on the object, uint8 [H,W] in {0,1}.
        off: strokes beside the object, uint8 [H,W] in {0,1}.

    Raises:
        ValueError: a box contains no pixel of the picture, a point lies outside of it, or either is in shares of the
            sides.
    """
    from fss.saliency.classical.prompted import (  # imports numba, which masks as they are given do not need
        LEAST_SHARE,
        object_at,
        object_in_box,
        object_under,
    )

    shape = rgb.shape[:2]
    points, strokes = _pixels(prompt.points, shape), np.zeros(shape, bool) if on is None else on == 1
    beside = _pixels(prompt.not_points, shape) | (False if off is None else off == 1)
    seeds = points | strokes
    if (seeds & beside).any():
        raise ValueError("a point or stroke is on the object and beside it at once; move one of them")
    mask, in_boxes, notes = np.zeros(shape, np.uint8), np.zeros(shape, bool), list[str]()
    for box in prompt.boxes:
        corners = _box_corners(box, shape)
        notes += _cut_notes(box, shape)
        inside = _filled(corners, shape)
        in_boxes |= inside == 1
        part = inside if prompt.filled else object_in_box(rgb, corners, seeds & (inside == 1), beside)
        share = part.sum() / inside.sum()
        if share < LEAST_SHARE:
            part = inside
            notes.append(
                f"no object stands out in the box {','.join(map(str, corners))} ({share:.0%} of it), so its mask is "
                "the whole box; draw the box closer around the object, add points, or give a mask"
            )
        mask |= part
    if (points & ~in_boxes).any():
        mask |= object_at(rgb, points & ~in_boxes, beside)
    if (strokes & ~in_boxes).any():
        mask |= object_under(rgb, strokes & ~in_boxes, beside)
    mask[beside] = 0
    mask[seeds] = 1
    return PromptedMask(mask=mask, notes=tuple(notes))


def mask_notes(mask: UInt8) -> tuple[str, ...]:
    """Return a note if a mask, uint8 [H,W] in {0,1}, looks inverted, or like strokes over an object."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if border.all() and not mask.all():
        return (
            f"a mask marks {mask.mean():.0%} of its picture and the whole border; if the object is black in it, "
            "invert it: what is not black (0) is the object",
        )
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask)
    half_width = float(cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5).max())
    is_thin = half_width <= max(3.0, _THIN * float(np.hypot(*mask.shape)))
    if not is_thin or parts[1:, cv2.CC_STAT_AREA].max(initial=0) < _LONG * half_width**2:
        return ()
    return (
        f"a mask consists of lines of {2 * half_width:.0f} pixels; if they are strokes over the object, give "
        "PICTURE:@MASK, or Prompt(strokes=MASK) in Python",
    )


def _filled(corners: "Corners", shape: Sequence[int]) -> UInt8:
    left, top, right, bottom = corners
    mask = np.zeros(tuple(shape[:2]), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def _box_corners(box: Box, shape: Sequence[int]) -> "Corners":
    """Return left, top, right and bottom of the box within the picture, in whole pixels."""
    height, width = shape[:2]
    if len(box) != 4 or not np.isfinite(box).all():
        raise ValueError(f"the box {list(box)} has to consist of finite numbers: left, top, right, bottom")
    if min(box) >= 0 and max(box) <= 1:
        shares = zip(box, (width, height) * 2, strict=True)
        pixels = ", ".join(str(round(share * side)) for share, side in shares)
        raise ValueError(
            f"the box {list(box)} is at most one pixel of a picture of {width} x {height} pixels; a box is in pixels, "
            f"not in shares of the sides, which would be {pixels}"
        )
    left, top, right, bottom = (round(value) for value in box)
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if left >= right or top >= bottom:
        raise ValueError(
            f"the box {list(box)} contains no pixel of a picture of {width} x {height} pixels; a box is left, top, "
            "right, bottom"
        )
    return left, top, right, bottom


def _cut_notes(box: Box, shape: Sequence[int]) -> list[str]:
    """Return a note if a box reaches far outside of the picture: its numbers may belong to a larger one."""
    height, width = shape[:2]
    left, top, right, bottom = box
    margin_x, margin_y = _OUTSIDE * width, _OUTSIDE * height
    if left >= -margin_x and top >= -margin_y and right <= width + margin_x and bottom <= height + margin_y:
        return []
    return [
        f"the box {','.join(f'{value:g}' for value in box)} reaches outside of its picture of {width} x {height} "
        "pixels and is cut at its border; a box is left, top, right, bottom in pixels of this very picture"
    ]


def _pixels(points: Sequence[Point], shape: Sequence[int]) -> BoolArray:
    """Return the pixels of points, bool [H,W]."""
    height, width = shape[:2]
    pixels = np.zeros((height, width), bool)
    for point in points:
        if len(point) != 2 or not np.isfinite(point).all() or not (0 <= point[0] < width and 0 <= point[1] < height):
            raise ValueError(
                f"the point {list(point)} must be x, y in a picture of {width} x {height} pixels, from its upper left "
                "corner"
            )
        if max(point) < 1 and any(value != int(value) for value in point):
            raise ValueError(
                f"the point {list(point)} is in the first pixel of a picture of {width} x {height} pixels; a point is "
                f"in pixels, not in shares of the sides, which would be {round(point[0] * width)}, "
                f"{round(point[1] * height)}"
            )
        pixels[int(point[1]), int(point[0])] = True
    return pixels
