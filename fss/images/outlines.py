"""Outlines of objects in COCO's form, checked before native code sees them.

An object has polygons, or run lengths (https://cocodataset.org/#format-data). pycocotools renders both, but it trusts
its input: a coordinate that is not finite or far outside makes it allocate all memory, and run lengths that end early
make it read memory of others. What reaches it here is finite, close to the picture and complete.
"""

from typing import Any

import numpy as np

from fss.core.arrays import BoolArray, Float64
from fss.images.decode_errors import DecodeError
from fss.images.run_lengths import column_runs

_NUMBERS = {int, float}  # bool is a type of its own
_LEAST = 6  # numbers of a polygon: three points
_STEP = 5  # pycocotools walks along the edges in fifths of a pixel
_MOST_STEPS = 10_000_000  # per object; it stores 20 bytes per step
_FEW_STEPS = 1_000_000  # per polygon; it is rendered as it is, wherever it goes
_FAR = 1e6  # larger coordinates overflow in pycocotools
_SCALE = 0.25  # keeps differences of huge coordinates finite


def has_outline(segmentation: Any) -> bool:
    """Return whether an object has any outline; boxes and key points have none, null or empty lists."""
    return bool(segmentation) and (not isinstance(segmentation, list) or any(part != [] for part in segmentation))


def encode_outline(segmentation: Any, height: int, width: int) -> tuple[Any, int]:
    """Return pycocotools' code of an object in a picture of this height and width, and its number of pixels.

    A list of numbers counts as one polygon. Polygons of fewer than three points enclose nothing and are left out if the
    object has others. Pixels outside the picture are cut off.

    Args:
        segmentation: list of polygons ``[x1, y1, x2, y2, ...]`` in pixels, or run lengths ``{"size": [height, width],
            "counts": list or string}``.
        height: height of the picture in pixels.
        width: width of the picture in pixels.

    Raises:
        DecodeError: the outline is missing or malformed. Reasons are no-outline, bad-outline, bad-coordinates,
            too-few-points, shares, outline-too-long, size-mismatch, bad-run-lengths, no-pixels and too-small.
    """
    from pycocotools import mask as coco_mask

    if not has_outline(segmentation):
        raise DecodeError("no-outline", "the object has neither polygons nor run lengths")
    polygons: list[Float64] = []
    if isinstance(segmentation, dict):
        runs = column_runs(segmentation, height, width)
        code = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    elif isinstance(segmentation, list):
        polygons = _polygons(segmentation, height, width)
        codes = coco_mask.frPyObjects(polygons, height, width)
        code = codes[0] if len(codes) == 1 else coco_mask.merge(codes)
    else:
        raise DecodeError("bad-outline", f"expected polygons or run lengths, got {type(segmentation).__name__}")
    area = int(coco_mask.area(code))
    if not area:
        if any(_reaches(points, height, width) for points in polygons):
            raise DecodeError("too-small", "the outline encloses no pixel")
        raise DecodeError("no-pixels", "the outline encloses no pixel of the picture")
    return code, area


def decode_outline(code: Any) -> BoolArray:
    """Return the pixels of a code of :func:`encode_outline`, bool [H, W]."""
    from pycocotools import mask as coco_mask

    return np.asarray(coco_mask.decode(code), np.uint8).view(np.bool_)


def _polygons(segmentation: list[Any], height: int, width: int) -> list[Float64]:
    """Return the polygons of an object, each ``[x1, y1, x2, y2, ...]``, finite and close to the picture."""
    parts = segmentation if any(isinstance(part, list | dict) for part in segmentation) else [segmentation]
    if not all(isinstance(part, list) for part in parts):
        raise DecodeError("bad-outline", "expected a list of polygons, each a list of numbers")
    polygons = [points for part in parts if len(points := _points(part)) >= _LEAST]
    if not polygons:
        raise DecodeError("too-few-points", "a polygon needs at least three points")
    if min(height, width) > 1 and _are_shares(np.concatenate(polygons)):
        raise DecodeError("shares", "the coordinates lie in 0..1; they must be pixels, not shares of the sides")
    polygons = [_near(points, height, width) for points in polygons]
    polygons = [points for points in polygons if len(points) >= _LEAST]
    if not polygons:
        raise DecodeError("no-pixels", "the outline lies outside the picture")
    longest = 3 * _STEP * max(height, width)  # of an edge
    if sum(map(len, polygons)) * longest > _MOST_STEPS and sum(map(_steps, polygons)) > _MOST_STEPS:
        raise DecodeError("outline-too-long", f"the outline is longer than {_MOST_STEPS // _STEP} pixels")
    return polygons


def _are_shares(values: Float64) -> bool:
    """Return whether coordinates are shares of the sides, as some tools write them: within the first pixel."""
    return bool(values.min() >= 0 and values.max() <= 1 and (values % 1).any())


def _points(part: list[Any]) -> Float64:
    """Return a polygon's coordinates, float64 [2 N]."""
    if not set(map(type, part)) <= _NUMBERS:
        other = next(value for value in part if type(value) not in _NUMBERS)
        raise DecodeError("bad-coordinates", f"expected numbers, got {str(other)[:20]!r}")
    try:
        points = np.array(part, np.float64)
    except OverflowError:  # an integer beyond float64
        points = np.array([np.inf])
    if not np.isfinite(points).all():
        raise DecodeError("bad-coordinates", "a coordinate is not finite")
    if len(points) % 2:
        raise DecodeError("bad-coordinates", f"{len(points)} numbers are no pairs of x and y")
    return points


def _reaches(points: Float64, height: int, width: int) -> bool:
    """Return whether the box around a polygon meets the picture."""
    (left, top), (right, bottom) = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    return bool(left <= width and top <= height and right >= 0 and bottom >= 0)


def _near(points: Float64, height: int, width: int) -> Float64:
    """Return a polygon that is cut if it goes far outside of the picture; almost all polygons stay as they are.

    Sutherland and Hodgman, "Reentrant Polygon Clipping", CACM 1974. The cuts run outside of the picture.
    """
    margin = max(height, width)
    low, high = points.min(), points.max()
    if low >= -margin and high <= min(height, width) + margin:
        return points
    if low > -_FAR and high < _FAR and _steps(points) <= _FEW_STEPS:
        return points
    pairs = points.reshape(-1, 2) * _SCALE
    for axis, size in ((0, width), (1, height)):
        for bound, sign in ((-margin, 1.0), (size + margin, -1.0)):
            pairs = _cut(pairs, axis, bound * _SCALE, sign)
    return (pairs / _SCALE).ravel()


def _cut(pairs: Float64, axis: int, bound: float, sign: float) -> Float64:
    """Return the part of a polygon, float64 [N, 2], on one side of a line across an axis."""
    inside = sign * (pairs[:, axis] - bound) >= 0
    following = np.roll(pairs, -1, axis=0)
    crosses = inside != np.roll(inside, -1)
    distance = (following - pairs)[crosses]
    crossings = following.copy()
    crossings[crosses] = pairs[crosses] + distance * ((bound - pairs[crosses, axis]) / distance[:, axis])[:, None]
    crossings[:, axis] = bound
    kept = np.stack([inside, crosses], axis=1)
    return np.asarray(np.stack([pairs, crossings], axis=1)[kept], np.float64)


def _steps(points: Float64) -> float:
    """Return the number of steps that pycocotools walks along a polygon."""
    pairs = points.reshape(-1, 2)
    return float(np.abs(pairs - np.roll(pairs, -1, axis=0)).max(axis=1).sum()) * _STEP + len(pairs)
