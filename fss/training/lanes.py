"""Logical lanes: which rows a training step reads, whatever the number of workers.

An epoch's parts are permuted by (seed, epoch) and dealt to V lanes in equal shares of rows. Where a share ends inside a
part, two lanes read this part, each its own rows; so lanes never run out unevenly, and there may be fewer parts than
lanes. A step takes B / V rows of every lane, an epoch is a fixed number of steps, and what is left over at a lane's end
(fewer than B + V rows in all, other ones every epoch) waits for the next epoch. Rank r of W reads the lanes v with
v mod W = r: equally many where W divides V; otherwise some ranks have one more, and the others wait for them. The
position is the step number alone: resuming at any step, with any W up to V, repeats nothing.
"""

from collections.abc import Sequence

import numpy as np

from fss.core.rng import keyed_rng


def check_lanes(lanes: int, batch: int, world: int = 1) -> None:
    """Check that lanes, batch and workers fit.

    Raises:
        ValueError: the lanes do not divide the batch, or there are more workers than lanes.
    """
    if lanes < 1 or batch < 1 or batch % lanes:
        raise ValueError(f"the batch is a multiple of the lanes, got batch {batch} and {lanes} lanes; change either")
    if not 1 <= world <= lanes:
        raise ValueError(f"{world} workers cannot share {lanes} lanes; use 1 to {lanes} workers or more lanes")


def steps_per_epoch(rows: int, lanes: int, batch: int) -> int:
    """Return the number of steps that ``rows`` rows give.

    Raises:
        ValueError: not enough rows for one step.
    """
    steps = (rows // lanes) // (batch // lanes)
    if steps < 1:
        raise ValueError(f"{rows} usable images do not fill one batch of {batch}; lower the batch or add images")
    return steps


class EpochOrder:
    """The order of one epoch."""

    def __init__(self, counts: Sequence[int], *, seed: int, epoch: int, lanes: int):
        """Permute the parts of an epoch.

        Args:
            counts: usable rows of every part, in the collection's order.
            seed: of the run.
            epoch: the pass.
            lanes: V.
        """
        self._seed, self._epoch = seed, epoch
        self._parts = keyed_rng(seed, epoch=epoch, purpose="lanes.parts").permutation(len(counts))
        self._counts = np.asarray(counts, np.int64)
        self._ends = np.cumsum(self._counts[self._parts])
        self._share = int(self._ends[-1]) // lanes if len(counts) else 0

    def rows(self, lane: int, start: int, count: int) -> list[tuple[int, int]]:
        """Return ``count`` rows of a lane from its position ``start``: (part number, number of its usable row)."""
        assert 0 <= start <= start + count <= self._share
        places = lane * self._share + start + np.arange(count)
        slots = np.searchsorted(self._ends, places, side="right")
        found = []
        for slot in np.unique(slots):
            part = int(self._parts[slot])
            offsets = places[slots == slot] - (self._ends[slot] - self._counts[part])
            found += [(part, int(row)) for row in self._within(part)[offsets]]
        return found

    def _within(self, part: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        draws = keyed_rng(self._seed, epoch=self._epoch, item=part, purpose="lanes.rows")
        return draws.permutation(int(self._counts[part]))
