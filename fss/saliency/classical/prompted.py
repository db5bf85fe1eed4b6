"""Segmentation of an object that a person points at: with a box around it, points on it, or strokes over it.

GrabCut (Rother et al., SIGGRAPH 2004; OpenCV's) segments the object in a box and under strokes. Where it keeps too
little of a box, as it does with small objects in busy photographs, a prior takes its place. The prior falls from the
centre of the box to the ellipse that it encloses, and the refinement of the classical saliency
(:mod:`fss.saliency.classical.refine`) turns it into the object. ``tests/benchmarks/bench_prompts.py`` compares these
choices with others on photographs with ground truth.
"""

import cv2
import numpy as np

from fss.core.arrays import BoolArray, Float32, UInt8
from fss.images.resize import shrink_to_area
from fss.saliency.classical.estimator import SaliencyEstimator
from fss.saliency.classical.refine import clean, refine
from fss.saliency.classical.superpixels import to_lab

Corners = tuple[int, int, int, int]
"""Left, top, right and bottom of a box within the picture, in pixels; right and bottom are excluded."""

LEAST_SHARE = 0.05
"""Share of a box below which the object found in it is no object."""
_GRABCUT_SHARE = 0.3  # of a box, below which GrabCut has lost the object
_WORKING_PIXELS = 40_000  # of the box with its surroundings; more pixels gave no better masks
_WHOLE = 0.9  # share of a box in its surroundings above which they are too narrow to show the background
_SURROUNDINGS = 0.5  # strip around a box that shows the background, as a share of the box's sides
_LEAST_SIDE = 8  # pixels; a smaller box has no edges to follow
_REACH = 0.15  # half side of the box around a point, as a share of the root of the picture's area


def object_in_box(rgb: UInt8, box: Corners, on: BoolArray | None = None, off: BoolArray | None = None) -> UInt8:
    """Segment the object in a box.

    Args:
        rgb: the picture, uint8 [H,W,3].
        box: the box.
        on: pixels that belong to the object, bool [H,W].
        off: pixels that do not, bool [H,W].

    Returns:
        uint8 [H,W] in {0,1}, 0 outside the box. All of the box where it is too small to look into.
    """
    left, top, right, bottom = box
    mask = np.zeros(rgb.shape[:2], np.uint8)
    inside = mask[top:bottom, left:right]
    if min(inside.shape) < _LEAST_SIDE:
        inside[:] = 1
        return mask
    margin_x, margin_y = int(_SURROUNDINGS * (right - left)), int(_SURROUNDINGS * (bottom - top))
    rows = slice(max(0, top - margin_y), bottom + margin_y)
    columns = slice(max(0, left - margin_x), right + margin_x)
    crop = rgb[rows, columns]
    small = shrink_to_area(crop, _WORKING_PIXELS)
    scale_y, scale_x = small.shape[0] / crop.shape[0], small.shape[1] / crop.shape[1]
    corners = (
        (left - columns.start) * scale_x,
        (top - rows.start) * scale_y,
        (right - columns.start) * scale_x,
        (bottom - rows.start) * scale_y,
    )
    if min(small.shape[:2]) < _LEAST_SIDE:
        inside[:] = 1
        return mask
    nothing = np.zeros(small.shape[:2], bool)
    seeds, beside = (nothing if hint is None else _shrink(hint[rows, columns], small.shape) for hint in (on, off))
    y, x = top - rows.start, left - columns.start
    window = (slice(y, y + inside.shape[0]), slice(x, x + inside.shape[1]))
    in_box = np.zeros(crop.shape[:2], bool)
    in_box[window] = True
    least = _GRABCUT_SHARE
    if in_box.mean() > _WHOLE and not beside.any():  # no surroundings show the background
        least = LEAST_SHARE
        inside[:] = SaliencyEstimator().estimate(rgb).mask[top:bottom, left:right]
    elif not beside.any():  # GrabCut does not learn from a point what lies around it
        labels = np.where(_shrink(in_box, small.shape), cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        inside[:] = clean(_enlarge(_grab_cut(small, labels, seeds, beside), crop.shape)[window])
    if inside.mean() < least:
        soft = refine(to_lab(small), _prior(small.shape, corners, seeds, beside), 0.5)
        inside[:] = clean(_enlarge(soft, crop.shape)[window])
    return mask


def object_at(rgb: UInt8, points: BoolArray, off: BoolArray) -> UInt8:
    """Segment the object that has points on it.

    It is the salient object if that contains all points, and else the union of the objects around each point.

    Args:
        rgb: the picture, uint8 [H,W,3].
        points: pixels on the object, bool [H,W].
        off: pixels beside the object, bool [H,W].

    Returns:
        uint8 [H,W] in {0,1}.
    """
    salient = _touched(SaliencyEstimator().estimate(rgb).mask, points)
    if salient[points].all() and not salient[off].any():
        return salient
    height, width = points.shape
    reach = max(_LEAST_SIDE, round(_REACH * np.sqrt(height * width)))
    mask = np.zeros((height, width), np.uint8)
    for y, x in np.argwhere(points):
        point = np.zeros_like(points)
        point[y, x] = True
        box = (max(0, int(x) - reach), max(0, int(y) - reach), min(width, int(x) + reach), min(height, int(y) + reach))
        mask |= _touched(object_in_box(rgb, box, point, off), point)
    return mask


def object_under(rgb: UInt8, strokes: BoolArray, off: BoolArray) -> UInt8:
    """Segment the object that strokes lie on.

    Args:
        rgb: the picture, uint8 [H,W,3].
        strokes: pixels on the object, bool [H,W].
        off: pixels beside the object, bool [H,W].

    Returns:
        uint8 [H,W] in {0,1}: the parts that the strokes touch.
    """
    small = shrink_to_area(rgb, _WORKING_PIXELS)
    on, beside = _shrink(strokes, small.shape), _shrink(off, small.shape)
    rows, columns = np.nonzero(on)
    extent = max(int(np.ptp(rows)), int(np.ptp(columns)), _LEAST_SIDE)
    labels = np.full(on.shape, cv2.GC_PR_BGD, np.uint8)
    distance = _distance(on)
    labels[distance < 5] = cv2.GC_PR_FGD
    labels[distance > extent] = cv2.GC_BGD
    labels[[0, -1]] = labels[:, [0, -1]] = cv2.GC_BGD  # the border shows background, as in most photographs
    return _touched(_enlarge(_grab_cut(small, labels, on, beside), rgb.shape) | strokes, strokes)


def _grab_cut(rgb: UInt8, labels: UInt8, on: BoolArray, off: BoolArray) -> Float32:
    """Return 1 on the object and 0 elsewhere, float32 [h,w], from GrabCut's initial labels and sure pixels."""
    labels[off] = cv2.GC_BGD
    labels[on] = cv2.GC_FGD
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if inside.any() and not inside.all():
        cv2.setRNGSeed(0)
        box, background, foreground = (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65))  # filled; the box is not used
        cv2.grabCut(np.ascontiguousarray(rgb), labels, box, background, foreground, 5, cv2.GC_INIT_WITH_MASK)
        inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return inside.astype(np.float32)


def _enlarge(soft: Float32, shape: tuple[int, ...]) -> BoolArray:
    """Return where a map is above 0.5 at another size, bool [H,W]."""
    return np.asarray(cv2.resize(soft, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR) > 0.5)


def _prior(shape: tuple[int, ...], corners: tuple[float, ...], on: BoolArray, off: BoolArray) -> Float32:
    """Return the prior of the object, float32 [h,w]: 1 at the centre of the box, 0.5 on its ellipse, 0 outside it."""
    left, top, right, bottom = corners
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    radius = np.hypot((x - centre_x) / (right - left), (y - centre_y) / (bottom - top)) * 2
    prior = np.clip(1 - 0.5 * radius, 0, 1)
    near = np.hypot(x - centre_x, y - centre_y)
    if on.any():
        near = _distance(on)
        prior = np.maximum(prior, np.clip(1 - near / (0.15 * np.hypot(right - left, bottom - top)), 0, 1))
    if off.any():
        far = _distance(off)
        prior *= np.clip(2 * far / (far + near + 1e-6), 0, 1)
    prior[(x < left) | (x > right) | (y < top) | (y > bottom)] = 0
    return np.asarray(prior, np.float32)


def _distance(hint: BoolArray) -> Float32:
    """Return the distance to the nearest pixel of a hint, float32 [h,w]."""
    return np.asarray(cv2.distanceTransform((~hint).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def _shrink(hint: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    """Return the cells that contain a pixel of a hint, bool [h,w]."""
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(hint.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0)


def _touched(mask: UInt8 | BoolArray, seeds: BoolArray) -> UInt8:
    """Return the connected parts of a mask that contain a seed, uint8 [H,W] in {0,1}."""
    _, labels = cv2.connectedComponents(np.asarray(mask, np.uint8))
    return np.asarray(np.isin(labels, np.setdiff1d(labels[seeds], 0)), np.uint8)
