"""Units of work for building tasks remotely, and queues that assemble the resulting tasks into steps.

A unit is the work of one remote call: some rows of one block, in the order in which a lane reads them. A worker
requests the units of all its lanes in the order in which it needs them.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from fss.training.few_shot.tasks import Task
from fss.training.few_shot.usable_rows import RowTable
from fss.training.lanes import Draw, EpochOrder


class Unit(NamedTuple):
    """Rows of one block for one lane, in reading order."""

    lane: int
    part: str
    rows: list[int]
    source: int
    """Number of the collection."""
    epoch: int
    """Epoch of the collection."""


def plan_units(
    draws: Mapping[int, Sequence[tuple[int, Draw]]],
    orders: Sequence[Callable[[int], EpochOrder]],
    rows: Sequence[RowTable],
    *,
    max_rows: int,
) -> list[Unit]:
    """Return the units of the next draws of each lane, in the order in which they are needed.

    Args:
        draws: the collection of each draw of each lane, and the draw within it. The positions of a lane's draws from
            an epoch of a collection are consecutive.
        orders: returns the order of an epoch, for each collection.
        rows: the usable rows of each collection.
        max_rows: maximum number of rows in a unit, which a worker holds in memory for each lane and collection.
    """
    numbered: list[tuple[int, Unit]] = []
    for lane, lane_draws in draws.items():
        for source in sorted({source for source, _ in lane_draws}):
            own = [(number, draw) for number, (other, draw) in enumerate(lane_draws) if other == source]
            for epoch, group in groupby(own, key=lambda pair: pair[1].epoch):
                run = list(group)
                lane_rows = orders[source](epoch).rows(lane, run[0][1].position, len(run))
                first = 0
                for part, unit_rows in _part_rows(rows[source], lane_rows, max_rows):
                    numbered.append((run[first][0], Unit(lane, part, unit_rows, source, epoch)))
                    first += len(unit_rows)
    return [unit for _, unit in sorted(numbered, key=lambda pair: (pair[0], pair[1].lane))]


def _part_rows(rows: RowTable, lane_rows: Iterable[tuple[int, int]], max_rows: int) -> Iterator[tuple[str, list[int]]]:
    """Yield the rows of a lane in runs of one block, with their part."""
    for block, group in groupby(lane_rows, key=lambda lane_row: lane_row[0]):
        numbers = [int(rows.train[block][index]) for _, index in group]
        for first in range(0, len(numbers), max_rows):
            yield rows.part(block), numbers[first : first + max_rows]


class LaneQueues:
    """Queues of incoming tasks, one per lane and collection, that yield complete steps."""

    def __init__(self, sources: Mapping[int, Iterable[int]], take: int):
        """Create the queues.

        Args:
            sources: the collections of the next draws of each lane of this worker; the lanes are in their order within
                a step.
            take: tasks per lane in a step.
        """
        self._sources = {lane: deque(own) for lane, own in sources.items()}
        self._queues: defaultdict[tuple[int, int], deque[Task]] = defaultdict(deque)
        self._take = take

    def add(self, lane: int, tasks: Iterable[Task], source: int = 0) -> None:
        """Append the next tasks of a lane from a collection."""
        self._queues[lane, source].extend(tasks)

    def steps(self) -> Iterator[list[Task]]:
        """Yield the tasks of each step for which all lanes have enough tasks."""
        while True:
            next_draws = [(lane, source) for lane, own in self._sources.items() for source in islice(own, self._take)]
            needed = Counter(next_draws)
            if len(next_draws) < self._take * len(self._sources) or not needed:
                return
            if any(len(self._queues[key]) < count for key, count in needed.items()):
                return
            for own in self._sources.values():
                for _ in range(self._take):
                    own.popleft()
            yield [self._queues[key].popleft() for key in next_draws]
