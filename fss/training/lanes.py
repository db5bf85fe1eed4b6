"""Logical lanes, which determine the rows of a training step independently of the number of workers.

The blocks of an epoch (``RowTable``) are permuted by (seed, epoch) and divided into V lanes with equal numbers of rows.
If a lane ends inside a block, the next lane continues there, so that all lanes are equally long and there may be fewer
blocks than lanes. A step takes B / V rows of every lane, for a batch of B. An epoch has a fixed number of steps; the
rows left at the end of a lane (fewer than B + V rows in all, different ones in every epoch) are skipped in that epoch.
Rank r of W workers reads the lanes v with v mod W = r. If W does not divide V, some ranks have one lane more, and the
others wait for them. The step number is the only position: training can resume at any step, with any W up to V, and
repeats no row.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fss.core.arrays import Int64
from fss.core.rng import keyed_rng


def check_lanes(lanes: int, batch: int, world: int = 1) -> None:
    """Check the numbers of lanes, episodes per batch and workers.

    Raises:
        ValueError: the lanes do not divide the batch, or there are more workers than lanes.
    """
    if lanes < 1 or batch < 1 or batch % lanes:
        raise ValueError(
            f"the batch must be a multiple of the lanes, got batch {batch} and {lanes} lanes; change either"
        )
    if not 1 <= world <= lanes:
        raise ValueError(
            f"{world} workers cannot share {lanes} lanes; use 1 to {lanes} workers or more lanes: --lanes divides the "
            f"batch of {batch}"
        )


def check_share(batch: int, world: int) -> None:
    """Check that each worker has an episode of every step.

    Raises:
        ValueError: there are more workers than episodes in a batch.
    """
    if not 1 <= world <= batch:
        raise ValueError(
            f"{world} workers cannot share a batch of {batch} episodes; use 1 to {batch} --workers or a larger "
            "--batch-size"
        )


def steps_per_epoch(rows: int, lanes: int, batch: int) -> int:
    """Return the number of steps in an epoch of ``rows`` rows.

    Raises:
        ValueError: there are not enough rows for one step.
    """
    steps = (rows // lanes) // (batch // lanes)
    if steps < 1:
        raise ValueError(
            f"{rows} usable images do not fill one batch of {batch}; give a smaller --batch-size or more images, or "
            "accept more masks"
        )
    return steps


class EpochOrder:
    """The order of the rows in one epoch."""

    def __init__(self, counts: Sequence[int] | Int64, *, seed: int, epoch: int, lanes: int):
        """Permute the blocks of an epoch.

        Args:
            counts: number of usable rows of every block, in the collection's order.
            seed: seed of the training.
            epoch: number of the epoch, counted from 0.
            lanes: number of lanes, V.
        """
        self._seed, self._epoch = seed, epoch
        self._blocks = keyed_rng(seed, epoch=epoch, purpose="lanes.parts").permutation(len(counts))
        self._counts = np.asarray(counts, np.int64)
        self._ends = np.cumsum(self._counts[self._blocks])
        self._share = int(self._ends[-1]) // lanes if len(counts) else 0

    def rows(self, lane: int, start: int, count: int) -> list[tuple[int, int]]:
        """Return ``count`` rows of a lane from position ``start``, as pairs (block number, usable row's index)."""
        assert 0 <= start <= start + count <= self._share
        positions = lane * self._share + start + np.arange(count)
        slots = np.searchsorted(self._ends, positions, side="right")
        rows = []
        for slot in np.unique(slots):
            block = int(self._blocks[slot])
            offsets = positions[slots == slot] - (self._ends[slot] - self._counts[block])
            rows += [(block, int(row)) for row in self._row_order(block)[offsets]]
        return rows

    def _row_order(self, block: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        rng = keyed_rng(self._seed, epoch=self._epoch, item=block, purpose="lanes.rows")
        return rng.permutation(int(self._counts[block]))


class Draw(NamedTuple):
    """One row that a lane reads from a collection."""

    epoch: int
    """Epoch of the collection."""
    position: int
    """Position in the lane, in this epoch."""
    lane: int
    """Number of the lane."""


WINDOW = 1024  # draws of a lane in which every collection has its share
FEWEST = 4  # expected draws of a collection in a window


class MixSchedule:
    """The collection of every draw of a training on several collections.

    The draws of a lane, over all epochs, are divided into windows. In each window, each collection has its share of the
    draws, rounded so that the rounding errors do not add up, in a random order that depends on (seed, lane, window).
    """

    def __init__(self, weights: Sequence[float], *, seed: int):
        """Prepare a schedule.

        Args:
            weights: positive weights of the collections; they need not add up to 1.
            seed: seed of the training.
        """
        shares = np.asarray(weights, np.float64)
        assert len(shares) and (shares > 0).all() and np.isfinite(shares).all(), "MixConfig has checked them"
        shares = shares / shares.sum()
        self.weights: list[float] = shares.tolist()
        """Weights of the collections, which add up to 1."""
        self._seed = seed
        self._window = max(WINDOW, int(np.ceil(FEWEST / shares.min())))
        self._bounds = np.cumsum(shares)[:-1]
        self._cached = functools.lru_cache(64)(self._draw_window)

    def draws(self, lane: int, start: int, count: int) -> list[tuple[int, int]]:
        """Return ``count`` draws of a lane from number ``start``: the collection, and how often it was drawn before."""
        result: list[tuple[int, int]] = []
        number = start
        while number < start + count:
            window, offset = divmod(number, self._window)
            sources, numbers = self._cached(lane, window)
            stop = min(self._window, offset + start + count - number)
            result += zip(sources[offset:stop].tolist(), numbers[offset:stop].tolist(), strict=True)
            number += stop - offset
        return result

    def _draw_window(self, lane: int, window: int) -> tuple[Int64, Int64]:
        """Return the collection of each draw of a window, and its number among the draws of its collection."""
        before, after = self._drawn(window), self._drawn(window + 1)
        rng = keyed_rng(self._seed, item=f"{lane}.{window}", purpose="mix.collection")
        sources = rng.permutation(np.repeat(np.arange(len(before)), after - before))
        numbers = np.zeros(len(sources), np.int64)
        for source, first in enumerate(before.tolist()):
            own = sources == source
            numbers[own] = first + np.arange(own.sum())
        return sources, numbers

    def _drawn(self, windows: int) -> Int64:
        """Return how often each collection is drawn in the first windows of a lane; the sum is exact."""
        total = windows * self._window
        return np.diff(np.concatenate([[0], np.floor(total * self._bounds), [total]])).astype(np.int64)
