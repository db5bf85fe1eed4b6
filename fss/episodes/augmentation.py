"""The random numbers of one augmented view: drawn on the CPU, one keyed draw per image and role.

A view is a short row of numbers; `fss.episodes.rendering` turns a batch of pictures and views into tensors on the
training device. Strengths as published: Amac et al., "MaskSplit", WACV 2022, section 4.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.config import AugmentConfig

View = NDArray[np.float32]
"""float32 [12]: 6 numbers of the affine map, 4 of the colours, blur kernel, grey."""

AFFINE = slice(0, 6)
"""Row-major 2x3 map from coordinates of the view to coordinates of the canvas, both in [-1, 1] across all pixels."""
COLOUR = slice(6, 10)
"""Factors of brightness, contrast, saturation, and shift of the hue in turns; 1, 1, 1, 0 change nothing."""
BLUR = 10
"""Side of the Gaussian kernel in pixels; 0 for none."""
GREY = 11
"""1 for a grey picture, else 0."""

CELLS = 64  # a view's object is looked for on a grid of at most so many points a side
_PLAIN = np.array([1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0], np.float32)


def identity_view() -> View:
    """Return the view that shows the picture as it is."""
    return _PLAIN.copy()


def draw_view(
    config: AugmentConfig,
    mask: Mask,
    *,
    height: int,
    width: int,
    size: int,
    seed: int,
    epoch: int,
    item: str,
    role: str,
) -> View:
    """Draw one view of a picture, the same whenever the key is the same.

    The view shows at least ``config.keep`` of the object (1 in ``mask``), or all of it: geometries are drawn by
    attempt number, and where none keeps enough, the last crop is widened until it contains the object, unrotated.

    Args:
        config: strengths and probabilities.
        mask: the canvas's mask, uint8 [C, C]; 1 is what the view must show.
        height: of the original picture in pixels; the crop's ratio is meant there.
        width: of the original picture.
        size: pixels a side of the rendered view.
        seed: first part of the key.
        epoch: second part of the key.
        item: image or episode id, third part of the key.
        role: "support" or "query", so that the two views are independent.
    """
    if not config.enabled:
        return identity_view()
    colours = _draw_colours(config, keyed_rng(seed, epoch=epoch, item=item, purpose=f"view.{role}.colour"))
    needed = max(config.keep * count_visible(mask, identity_view()[AFFINE], size), 1.0)
    if not (mask == 1).any():  # only a cut as released leaves a half without a pixel; any view will do
        needed = 0.0
    box, flips = np.zeros(4), np.ones(2)
    for attempt in range(config.attempts):
        rng = keyed_rng(seed, epoch=epoch, item=item, purpose=f"view.{role}.{attempt}")
        box = _draw_box(config, height, width, rng)
        flips = np.where(rng.random(2) < (config.horizontal_flip, config.vertical_flip), -1.0, 1.0)
        angle = np.deg2rad(rng.uniform(-config.degrees, config.degrees)) if rng.random() < config.rotate else 0.0
        affine = _affine(box, flips, angle)
        if count_visible(mask, affine, size) >= needed:
            return np.concatenate([affine, colours])
    return np.concatenate([_affine(_containing(box, mask), flips, 0.0), colours])


def count_visible(mask: Mask, affine: NDArray[np.float32], size: int) -> int:
    """Count the points of a coarse grid of the view that show the object; the grid lies on the view's pixels."""
    step = -(-size // CELLS)
    points = -(-(size - step // 2) // step)
    # From the number of a point to its coordinate, through the view's map, to the number of a canvas pixel.
    first, spacing, half = (2 * (step // 2) + 1) / size - 1, 2 * step / size, mask.shape[0] / 2
    a, b, c, d, e, f = affine.astype(np.float64) * half
    offset = half - 0.5
    numbers = np.array(
        [
            [a * spacing, b * spacing, (a + b) * first + c + offset],
            [d * spacing, e * spacing, (d + e) * first + f + offset],
        ]
    )
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(mask, numbers, (points, points), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return int(np.count_nonzero(seen == 1))


def _draw_box(config: AugmentConfig, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a crop as left, top, right, bottom in fractions of the picture."""
    area = height * width * rng.uniform(*config.crop_scale)
    ratio = np.exp(rng.uniform(*np.log(config.crop_ratio)))
    extent = np.minimum((np.sqrt(area * ratio) / width, np.sqrt(area / ratio) / height), 1.0)
    corner = rng.random(2) * (1 - extent)
    return np.concatenate([corner, corner + extent])


def _containing(box: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    rows, columns = np.nonzero((mask == 1).any(1))[0], np.nonzero((mask == 1).any(0))[0]
    if not len(rows):
        return box
    low = np.array([columns[0] / mask.shape[1], rows[0] / mask.shape[0]])
    high = np.array([(columns[-1] + 1) / mask.shape[1], (rows[-1] + 1) / mask.shape[0]])
    return np.concatenate([np.minimum(box[:2], low), np.maximum(box[2:], high)])


def _affine(box: NDArray[np.float64], flips: NDArray[np.float64], angle: float) -> NDArray[np.float32]:
    half, centre = box[2:] - box[:2], box[:2] + box[2:] - 1
    cos, sin = np.cos(angle), np.sin(angle)
    (a, b), (d, e) = (half * flips)[:, None] * np.array([[cos, -sin], [sin, cos]])
    return np.array([a, b, centre[0], d, e, centre[1]], np.float32)


def _draw_colours(config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    jittered = rng.random() < config.jitter
    strengths = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    shifts = rng.uniform(-strengths, strengths) * jittered
    kernel = rng.choice((3, 5, 7)) if rng.random() < config.blur else 0
    grey = rng.random() < config.grey
    return np.array([*(1 + shifts[:3]), shifts[3], kernel, grey], np.float32)
