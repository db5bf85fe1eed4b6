"""The rows that a worker reads in each step of a semantic training."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from fss.core.rng import keyed_rng
from fss.training.lanes import EpochOrder, check_lanes, steps_per_epoch
from fss.training.semi_supervised.config import SemanticStreamConfig
from fss.training.semi_supervised.rows import Rows

RowKey = tuple[int, int, int]
"""Epoch, part number and row."""


class RowOrder:
    """The rows that a worker reads in each step, over all epochs."""

    def __init__(
        self,
        rows: Sequence[Rows],
        block_rows: int | None,
        batch: int,
        config: SemanticStreamConfig,
        item: str,
        rank: int,
        world: int,
        *,
        before: int = 0,
        repeat: int = 0,
        pairs: bool = False,
    ):
        """Divide the rows into lanes; with more workers than lanes, the workers share the rows of a step one by one.

        Args:
            rows: rows of each part.
            block_rows: rows of a block, which are read and shuffled together; None keeps parts whole.
            batch: rows in a step, over all workers.
            config: lanes and seed.
            item: name of the order.
            rank: number of this worker.
            world: number of workers.
            before: number of rows of another kind in the step, which the workers share first.
            repeat: epochs after which the order begins again; 0 never.
            pairs: give each lane two rows or more of a step, which are mixed with each other.

        Raises:
            ValueError: pairs of rows cannot be divided among so many workers.
        """
        self.item, self.batch, self._repeat = item, batch, repeat
        self._blocks = [block for part, numbers in enumerate(rows) for block in _blocks(part, numbers, block_rows)]
        self._counts = [len(numbers) for _, numbers in self._blocks]
        self._lane_count = math.gcd(batch, config.lanes)
        if pairs:
            self._lane_count = max(n for n in range(1, self._lane_count + 1) if batch % n == 0 and batch // n > 1)
            if world > self._lane_count:
                raise ValueError(
                    f"mixing needs two pictures of the pool per worker, got {batch} for {world} workers; use at most "
                    f"{self._lane_count} --workers, or --strong.mix none"
                )
        check_lanes(self._lane_count, batch)
        self.rows_per_lane = batch // self._lane_count
        by_lane = world <= self._lane_count
        self._lanes = range(rank, self._lane_count, world) if by_lane else range(self._lane_count)
        self._own = slice(None) if by_lane else slice((rank - before) % world, None, world)
        self._steps = steps_per_epoch(sum(self._counts), self._lane_count, batch)
        self._seed = int(keyed_rng(config.seed or 0, item=item, purpose="semantic.order").integers(2**31))
        self._order = functools.lru_cache(1)(self._epoch_order)

    def position(self, step: int) -> int:
        """Return the step whose rows and views a step has."""
        return step % (self._repeat * self._steps) if self._repeat else step

    def row_keys(self, step: int) -> list[RowKey]:
        """Return the rows that this worker reads in a step."""
        epoch, number = divmod(self.position(step), self._steps)
        order, take = self._order(epoch), self.rows_per_lane
        lane_rows = [row for lane in self._lanes for row in order.rows(lane, number * take, take)]
        return [
            (epoch, self._blocks[block][0], int(self._blocks[block][1][row])) for block, row in lane_rows[self._own]
        ]

    def _epoch_order(self, epoch: int) -> EpochOrder:
        return EpochOrder(self._counts, seed=self._seed, epoch=epoch, lanes=self._lane_count)


def count_rows(rows: Sequence[Rows]) -> int:
    """Return the number of rows in all parts."""
    return sum(map(len, rows))


def _blocks(part: int, rows: Rows, block_rows: int | None) -> list[tuple[int, Rows]]:
    """Divide the rows of a part into blocks, which are read and shuffled together; None keeps the part whole."""
    if block_rows is None or not len(rows):
        return [(part, rows)]
    ends = np.arange(block_rows, int(rows.max()) + 1, block_rows)
    return [(part, numbers) for numbers in np.split(rows, np.searchsorted(rows, ends))]
