"""The shapes of a labelme file, each checked and painted as labelme's own export paints it.

labelme draws with Pillow, outline included, and later shapes cover earlier ones (``labelme.utils.shapes_to_label``).
Polygons, rectangles, circles and masks have an area. Points and lines have none and are left out.
"""

import base64
import binascii
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fss.collection.sources.class_lists import role_of
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import decode_label_picture
from fss.images.labels import LabelMask
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import MAX_CLASS_ID, from_class_map

AREAS = ("polygon", "rectangle", "circle", "mask", "rotation", "oriented_rectangle")
"""Shapes that have an area; the last two are polygons in all but name."""
_OUTLINES = ("point", "points", "line", "linestrip")
_VOID_ID = MAX_CLASS_ID
_FAR = 100_000.0  # largest coordinate, in pixels
_LONGEST = 10_000_000  # length of an outline that Pillow draws within a second, in pixels
_LARGEST_RADIUS = 20_000.0  # numbers of larger circles overflow in Pillow

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels; the last two are not part of it."""


def class_label(shape: Any) -> str | None:
    """Return the label of a shape that can be painted; None for shapes without one, and for lines."""
    if not isinstance(shape, Mapping) or shape.get("shape_type", "polygon") not in (*AREAS, None):
        return None
    return _label(shape) or None


def _label(shape: Mapping[str, Any]) -> str:
    """Return the label of a shape in composed Unicode; empty if it is no text."""
    label = shape.get("label")
    if not isinstance(label, str) or any("\ud800" <= character <= "\udfff" for character in label):
        return ""
    return unicodedata.normalize("NFC", label.strip())


def paint_shapes(shapes: Any, size: tuple[int, int], class_ids: Mapping[str, int], limits: DecodeLimits) -> LabelMask:
    """Paint the shapes of a photograph; a faulty shape is left out and counted.

    Labels called background paint background, and those called void or ignored paint ignored pixels, such as labelme's
    own ``_background_`` and ``__ignore__``.

    Args:
        shapes: ``shapes`` of the file.
        size: height and width of the photograph, in pixels.
        class_ids: class id by label.
        limits: limits on a mask within the file.

    Raises:
        DecodeError: the shapes are no list, all of them are faulty, or they have too many classes.
    """
    if not isinstance(shapes, list):
        raise DecodeError("bad-annotation", f"shapes is no list, but {type(shapes).__name__}")
    painted = np.zeros(size, np.uint16)
    left_out: Counter[str] = Counter()
    for shape in shapes:
        try:
            if not isinstance(shape, Mapping):
                raise DecodeError("bad-shape", f"a shape is {type(shape).__name__}")
            (left, top, right, bottom), area = _area(shape, size, limits)
            painted[top:bottom, left:right][area] = _value(shape, class_ids)
        except DecodeError as error:
            left_out[error.reason] += 1
    if left_out and left_out.total() == len(shapes):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DecodeError(left_out.most_common(1)[0][0], f"no shape of the picture can be painted ({reasons})")
    try:
        mask, ids = from_class_map(painted, background=0, void=(_VOID_ID,))
    except ValueError as error:
        raise DecodeError("too-many-classes", str(error)) from error
    return LabelMask(mask=mask, class_ids=tuple(ids), left_out=dict(left_out))


def _value(shape: Mapping[str, Any], class_ids: Mapping[str, int]) -> int:
    """Return the value to paint for a shape's label."""
    label = _label(shape)
    if not label:
        raise DecodeError("no-label", "the shape has no label")
    if (role := role_of(label)) is not None:
        return 0 if role == "background" else _VOID_ID
    if label not in class_ids:
        raise DecodeError("unknown-label", f"{label[:40]!r} was not in the file when it was listed")
    return class_ids[label]


def _area(shape: Mapping[str, Any], size: tuple[int, int], limits: DecodeLimits) -> tuple[Box, NDArray[np.bool_]]:
    """Return a box within the photograph, and the pixels of a shape in it, bool [h, w].

    Raises:
        DecodeError: the shape has no area, or is malformed.
    """
    kind = shape.get("shape_type") or "polygon"
    if kind in _OUTLINES:
        raise DecodeError("no-area", f"a {kind} has no area")
    if kind not in AREAS:
        raise DecodeError("unknown-shape", f"there is no shape {str(kind)[:40]!r}")
    points = _points(shape.get("points"))
    if kind == "mask":
        box, area = _paste(_decode_mask(shape.get("mask"), limits), points, size)
    elif kind == "circle":
        box, area = _draw_circle(points, size)
    elif kind == "rectangle" and len(points) == 2:
        box, area = _draw(np.array([points.min(0), points.max(0)]), size, "rectangle")
    else:
        box, area = _draw_polygon(points, size)
    if not area.any():
        raise DecodeError("no-pixels", "the shape covers no pixel of the picture")
    return box, area


def _points(points: Any) -> NDArray[np.float64]:
    """Return the points of a shape, float64 [N, 2]: x and y in pixels, finite and not far from any picture."""
    try:
        pairs = [(x, y) for x, y in points]
    except (TypeError, ValueError):
        raise DecodeError("bad-coordinates", "points is no list of pairs of x and y") from None
    if not all(type(number) in (int, float) and abs(number) <= _FAR for pair in pairs for number in pair):
        raise DecodeError("bad-coordinates", f"a coordinate is no number within {_FAR:.0f} pixels")
    return np.array(pairs, np.float64).reshape(-1, 2)


def _draw_polygon(points: NDArray[np.float64], size: tuple[int, int]) -> tuple[Box, NDArray[np.bool_]]:
    if len(points) < 3:
        raise DecodeError("too-few-points", f"a polygon needs three points, got {len(points)}")
    if np.abs(points - np.roll(points, 1, axis=0)).max(1).sum() > _LONGEST:
        raise DecodeError("outline-too-long", f"the outline is longer than {_LONGEST} pixels")
    return _draw(points, size, "polygon")


def _draw_circle(points: NDArray[np.float64], size: tuple[int, int]) -> tuple[Box, NDArray[np.bool_]]:
    """Draw a circle from its centre and a point on it."""
    if len(points) != 2:
        raise DecodeError("too-few-points", f"a circle has a centre and a point on it, got {len(points)} points")
    radius = math.dist(*points)
    if radius > _LARGEST_RADIUS:
        raise DecodeError("bad-coordinates", f"the radius {radius:.0f} exceeds {_LARGEST_RADIUS:.0f} pixels")
    return _draw(np.array([points[0] - radius, points[0] + radius]), size, "ellipse")


def _draw(points: NDArray[np.float64], size: tuple[int, int], method: str) -> tuple[Box, NDArray[np.bool_]]:
    """Draw with a method of Pillow into the part of the picture that the points enclose."""
    left, top, right, bottom = box = _cut(points.min(0), points.max(0) + 1, size)
    image = Image.new("1", (right - left, bottom - top))
    drawn = [(float(x - left), float(y - top)) for x, y in points]
    getattr(ImageDraw.Draw(image), method)(drawn, fill=1, outline=1)
    return box, np.array(image, bool)


def _cut(low: NDArray[np.float64], high: NDArray[np.float64], size: tuple[int, int]) -> Box:
    """Return the box around two corners, within the picture.

    Raises:
        DecodeError: the box lies outside the picture.
    """
    left, top = (max(0, math.floor(number)) for number in low)
    right, bottom = (min(side, math.ceil(number) + 1) for number, side in zip(high, size[::-1], strict=True))
    if left >= right or top >= bottom:
        raise DecodeError("no-pixels", "the shape lies outside the picture")
    return left, top, right, bottom


def _decode_mask(text: Any, limits: DecodeLimits) -> NDArray[np.bool_]:
    """Return the pixels of a mask in a shape, a PNG in base64."""
    try:
        data = base64.b64decode(text, validate=True)
        values = decode_label_picture(data, replace(limits, min_side=1)).values
    except (TypeError, binascii.Error, ValueError) as error:
        raise DecodeError("bad-mask", f"the mask of a shape cannot be decoded: {error}") from error
    if values is None:
        raise DecodeError("bad-mask", "the mask of a shape has colours")
    return np.asarray(values > 0)


def _paste(
    area: NDArray[np.bool_], points: NDArray[np.float64], size: tuple[int, int]
) -> tuple[Box, NDArray[np.bool_]]:
    """Place a mask at its box; the points are the centres of the first and the last pixel."""
    height, width = area.shape
    if len(points) != 2 or np.abs(points[1] - points[0] + 1 - (width, height)).max() > 1:
        raise DecodeError("bad-mask", f"the mask of a shape has {width} x {height} pixels, its box has others")
    x, y = (round(number) for number in points[0])
    left, top, right, bottom = max(0, x), max(0, y), min(size[1], x + width), min(size[0], y + height)
    if left >= right or top >= bottom:
        raise DecodeError("no-pixels", "the shape lies outside the picture")
    return (left, top, right, bottom), area[top - y : bottom - y, left - x : right - x]
