"""Sampling of augmentation parameters on the CPU, keyed by image and role.

A view is a short vector of parameters; `fss.episodes.rendering` applies a batch of views to images on the training
device. The default strengths follow Amac et al., "MaskSplit", WACV 2022, section 4; those of the tones follow VAT (Hong
et al., 2021).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.config import AugmentConfig

View = NDArray[np.float32]
"""float32 [21]: 6 parameters of the affine map, 4 of the colours, blur kernel, grey, 8 of the tones, order."""

AFFINE = slice(0, 6)
"""Row-major 2x3 map from view coordinates to canvas coordinates, both in [-1, 1] from edge to edge."""
COLOUR = slice(6, 10)
"""Factors of brightness, contrast and saturation, and shift of the hue in turns; (1, 1, 1, 0) changes nothing."""
BLUR = 10
"""Side of the Gaussian kernel in pixels; 0 for no blur."""
GREY = 11
"""1 to convert the image to grey, else 0."""
TONES = slice(12, 20)
"""Changes of the tones, each 0 for none: grey, posterised and equalised (1), share and lightness of the sharper image,
relative change of the contrast, shift of the brightness as a share of white, and solarised (1)."""
ORDER = 20
"""Number of the permutation of brightness, contrast, saturation and hue in which they change; 0 is this order."""

CELLS = 64  # largest number of grid points per side for counting visible object pixels
_ORDERS = 24
_PLAIN = np.array([1, 0, 0, 0, 1, 0, 1, 1, 1, *[0] * 12], np.float32)


def identity_view() -> View:
    """Return the view that leaves the image unchanged, float32 [21]."""
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
    """Sample one view of an image, float32 [21]; equal keys give equal views.

    The view shows at least the share ``config.keep`` of the object (1 in ``mask``). Geometries are sampled by attempt
    number; if none shows enough, the last crop is enlarged, without rotation, until it contains the object.

    Args:
        config: strengths and probabilities.
        mask: mask of the canvas, uint8 [C, C]; 1 is the object that the view must show.
        height: height of the original image in pixels; the aspect ratio of the crop refers to it.
        width: width of the original image in pixels.
        size: side of the rendered view in pixels.
        seed: seed of the key.
        epoch: epoch of the key.
        item: image or episode id of the key.
        role: "support" or "query", which have independent views.
    """
    if not config.enabled:
        return identity_view()
    colours = np.concatenate(
        [
            _draw_colours(config, keyed_rng(seed, epoch=epoch, item=item, purpose=f"view.{role}.colour")),
            _draw_tones(config, keyed_rng(seed, epoch=epoch, item=item, purpose=f"view.{role}.tones")),
        ]
    )
    required = max(config.keep * count_visible(mask, identity_view()[AFFINE], size), 1.0)
    if not (mask == 1).any():  # only the released variant of the cut leaves an empty half; then any view is valid
        required = 0.0
    box, flips = np.zeros(4), np.ones(2)
    for attempt in range(config.attempts):
        rng = keyed_rng(seed, epoch=epoch, item=item, purpose=f"view.{role}.{attempt}")
        box = _draw_box(config, height, width, rng)
        flips = np.where(rng.random(2) < (config.horizontal_flip, config.vertical_flip), -1.0, 1.0)
        angle = np.deg2rad(rng.uniform(-config.degrees, config.degrees)) if rng.random() < config.rotate else 0.0
        affine = _affine(box, flips, angle)
        if count_visible(mask, affine, size) >= required:
            return np.concatenate([affine, colours])
    return np.concatenate([_affine(_containing(box, mask), flips, 0.0), colours])


def count_visible(mask: Mask, affine: NDArray[np.float32], size: int) -> int:
    """Return the number of grid points of the view that show the object.

    Args:
        mask: mask of the canvas, uint8 [C, C]; 1 is the object.
        affine: map of the view, float32 [6].
        size: side of the view in pixels; the grid lies on a subset of its pixels.
    """
    step, points = _grid(size)
    # Composes three maps: grid index to view coordinate, view to canvas coordinate, coordinate to pixel index.
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
    sampled = cv2.warpAffine(mask, numbers, (points, points), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return int(np.count_nonzero(sampled == 1))


def visible_share(mask: Mask, affine: NDArray[np.float32], size: int) -> float:
    """Return the share of the view that shows the object; see :func:`count_visible`."""
    return count_visible(mask, affine, size) / _grid(size)[1] ** 2


def _grid(size: int) -> tuple[int, int]:
    """Return the distance of the grid points on a view in pixels, and their number per side."""
    step = -(-size // CELLS)
    return step, -(-(size - step // 2) // step)


def _draw_box(config: AugmentConfig, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sample a crop as left, top, right, bottom in fractions of the image, float64 [4]."""
    area = height * width * rng.uniform(*config.crop_scale)
    ratio = np.exp(rng.uniform(*np.log(config.crop_ratio)))
    extent = np.minimum((np.sqrt(area * ratio) / width, np.sqrt(area / ratio) / height), 1.0)
    corner = rng.random(2) * (1 - extent)
    if config.cropped < 1 and rng.random() >= config.cropped:
        return np.array([0.0, 0.0, 1.0, 1.0])
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


def _draw_tones(config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sample the changes of the tones and the order of the changes of the colours, float32 [9]."""
    if not config.tones:
        return np.zeros(9, np.float32)
    grey, posterize, equalize, sharpen, contrast, solarize = rng.random(6) < config.tones
    alpha, lightness = rng.uniform((0.2, 0.5), (0.5, 1.0)) * sharpen
    shifts = rng.uniform(-0.2, 0.2, 2) * contrast
    order = rng.integers(_ORDERS)
    return np.array([grey, posterize, equalize, alpha, lightness, *shifts, solarize, order], np.float32)
