"""Splitting of a pseudo-mask into two halves: the support mask and the target of the query.

Method: Amac et al., "MaskSplit: Self-supervised Meta-learning for Few-shot Semantic Segmentation", WACV 2022,
section 3 (arXiv 2110.12207). The released code displaces and mirrors the cut, measures the tilt in pixels, drops the
pixels on the line and accepts tasks without a query object; ``as_released`` reproduces that for comparison. Random
numbers are keyed by (seed, epoch, image) in both modes.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Mask
from fss.core.rng import keyed_rng
from fss.episodes.config import SplitConfig

RELEASED_TILT_PIXELS = 40
RELEASED_MIN_SUM = 512

Sides = tuple[NDArray[np.bool_], NDArray[np.bool_]]
Box = tuple[slice, slice]
"""Rows and columns of the mask that hold its foreground; only there the cut is computed."""


@dataclass(frozen=True)
class Split:
    """The two masks of one task, at native resolution [H, W]."""

    support: Mask
    """1 on the support half, else 0."""
    query: Mask
    """1 on the other half, 255 to ignore, else 0."""


def is_splittable(pixels: Any, height: Any, width: Any, config: SplitConfig) -> Any:
    """Return whether objects of ``pixels`` pixels in images of ``height`` x ``width`` are large enough to split.

    The sizes are numbers or arrays [N], and so is the result.
    """
    return pixels >= np.maximum(2, 2 * config.min_half * height * width)


def draw_split(mask: Mask, config: SplitConfig, *, seed: int, epoch: int, item: str) -> Split:
    """Split the mask of one image, uint8 [H, W]; equal seed, epoch and item give equal splits.

    Attempts are keyed by their number. If none gives two halves that are large enough, the object is split by a
    straight median cut across its longer side, which always gives two halves.

    Raises:
        ValueError: the mask has fewer than 2 foreground pixels.
    """
    for attempt in range(config.attempts):
        split = split_mask(mask, config, keyed_rng(seed, epoch=epoch, item=item, purpose=f"split.{attempt}"))
        if split is not None:
            return split
    return _straight_cut(mask, config)


def split_mask(mask: Mask, config: SplitConfig, rng: np.random.Generator) -> Split | None:
    """Split a mask by one random cut.

    Args:
        mask: mask, uint8 [H, W] in {0, 1, 255}.
        config: settings of the cut.
        rng: random generator.

    Returns:
        The two halves, or None if one of them is too small.

    Raises:
        ValueError: the mask has fewer than 2 foreground pixels.
    """
    mask = _one_component(mask, config, rng) if config.component else mask
    columns, rows = _profiles(mask)
    chance = rng.random()
    if chance >= config.vertical + config.horizontal:
        return Split((mask == 1).astype(np.uint8), mask.copy())
    vertical, box = chance < config.vertical, _box(columns, rows)
    across = columns if vertical else rows
    median = _quantile(across, rng.uniform(*config.ratio))
    if config.as_released:
        tilt = float(rng.integers(-RELEASED_TILT_PIXELS, RELEASED_TILT_PIXELS))
        first, second = _released_sides(median, tilt, mask.shape, box, vertical)
    else:
        tilt, margin = rng.uniform(-config.tilt, config.tilt) * _extent(across), config.margin * _extent(across)
        first, second = _sides(median, tilt, mask.shape, box, vertical, margin)
        if margin:
            mask = mask.copy()
            mask[box][(mask[box] == 1) & ~first & ~second] = IGNORE
    swap = config.alternate and rng.random() < 0.5
    split = _halves(mask, box, second, first, config) if swap else _halves(mask, box, first, second, config)
    return split if _large_enough(split, box, config) else None


def _profiles(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of foreground pixels per column, int64 [W], and per row, int64 [H]."""
    foreground = (mask == 1).view(np.uint8)
    # A twentieth of the time of np.count_nonzero, which sums booleans one by one.
    columns, rows = (
        cv2.reduce(foreground, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel().astype(np.int64) for axis in (0, 1)
    )
    if columns.sum() < 2:
        raise ValueError(
            f"a mask needs at least 2 foreground pixels to be cut, got {columns.sum()}; "
            "leave the image out (see `is_splittable`)"
        )
    return columns, rows


def _extent(profile: NDArray[np.int64]) -> int:
    positions = np.nonzero(profile)[0]
    return int(positions[-1] - positions[0] + 1)


def _quantile(profile: NDArray[np.int64], share: float) -> int:
    """Return the column (or row) up to which the share of foreground pixels comes closest to ``share``."""
    cumulated = np.cumsum(profile)
    return int(np.abs(cumulated - cumulated[-1] * share).argmin())


def _box(columns: NDArray[np.int64], rows: NDArray[np.int64]) -> Box:
    """Return the bounding box of the foreground from its profiles."""
    x, y = np.nonzero(columns)[0], np.nonzero(rows)[0]
    return slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def _sides(h: int, t: float, shape: tuple[int, ...], box: Box, vertical: bool, margin: float = 0.0) -> Sides:
    """Return the masks of the first and the second side of the cut within a box, bool [h, w], ``margin`` pixels apart.

    The line runs through (h + t, 0) and (h - t, H - 1), or through (0, h - t) and (W - 1, h + t) of a mask of
    ``shape`` [H, W]. Pixels exactly on it count as left of or above it, like the median column.
    """
    (height, width), (y, x) = shape, _coordinates(box)
    if vertical:
        left, band = (x - h - t) * (height - 1) + 2 * t * y, margin / 2 * (height - 1)
        return left <= -band, left > band
    above, band = 2 * t * x - (y - h + t) * (width - 1), margin / 2 * (width - 1)
    return above < -band, above >= band


def _released_sides(h: int, t: float, shape: tuple[int, ...], box: Box, vertical: bool) -> Sides:
    """Return the sides of the released code: a wrong normal mirrors the line and shifts it by 2t."""
    (height, width), (y, x) = shape, _coordinates(box)
    if vertical:
        left, right = (x - h + 3 * t) * (height - 1), 2 * t * y
    else:
        left, right = 2 * t * (x - width + 1), (h + t - y) * (width - 1)
    return left < right, left > right


def _coordinates(box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row numbers [h, 1] and the column numbers [1, w] of a box."""
    rows, columns = (np.arange(each.start, each.stop) for each in box)
    return rows[:, None], columns[None]


def _halves(
    mask: Mask, box: Box, support_side: NDArray[np.bool_], query_side: NDArray[np.bool_], config: SplitConfig
) -> Split:
    foreground = mask[box] == 1
    half = foreground & support_side
    support, query = np.zeros_like(mask), (mask == IGNORE).view(np.uint8) * np.uint8(IGNORE)
    support[box] = half
    # The sums mark each pixel once, since the halves and the ignored pixels never overlap.
    query[box] += (foreground & query_side).view(np.uint8)
    query[box] += half.view(np.uint8) * np.uint8(IGNORE if config.ignore_support else 1)
    return Split(support, query)


def _large_enough(split: Split, box: Box, config: SplitConfig) -> bool:
    if config.as_released:  # ignored pixels count as 255 each, so a query without an object passes
        return min(int(split.support.sum(dtype=np.int64)), int(split.query.sum(dtype=np.int64))) >= RELEASED_MIN_SUM
    required = max(1.0, config.min_half * split.support.size)
    support, query = split.support[box], split.query[box]
    return min(int(np.count_nonzero(support)), int(np.count_nonzero((query == 1) & (support == 0)))) >= required


def _straight_cut(mask: Mask, config: SplitConfig) -> Split:
    mask = _largest_component(mask) if config.component else mask
    columns, rows = _profiles(mask)
    vertical = _extent(columns) >= _extent(rows)
    median, box = _quantile(columns if vertical else rows, 0.5), _box(columns, rows)
    return _halves(mask, box, *_sides(median, 0.0, mask.shape, box, vertical), config)


def _components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask == 1).astype(np.uint8), connectivity=8)
    return labels, stats[1:, cv2.CC_STAT_AREA]


def _only(mask: Mask, labels: NDArray[np.int32], number: int) -> Mask:
    others = (labels > 0) & (labels != number + 1)
    return np.where(others, IGNORE, mask).astype(np.uint8)


def _one_component(mask: Mask, config: SplitConfig, rng: np.random.Generator) -> Mask:
    """Keep one uniformly sampled component that is large enough, and ignore the others."""
    labels, areas = _components(mask)
    large = [n for n, area in enumerate(areas) if is_splittable(int(area), mask.shape[0], mask.shape[1], config)]
    return _only(mask, labels, int(rng.choice(large))) if large else _largest_component(mask)


def _largest_component(mask: Mask) -> Mask:
    labels, areas = _components(mask)
    return _only(mask, labels, int(areas.argmax())) if len(areas) else mask
