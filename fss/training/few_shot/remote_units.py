"""Units of work for building tasks remotely, and queues that assemble the resulting tasks into steps.

A unit is the work of one remote call: some rows of one block, in the order in which a lane reads them. A worker
requests the units of all its lanes in the order in which it needs them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from fss.training.few_shot.tasks import Task
from fss.training.few_shot.usable_rows import RowTable
from fss.training.lanes import EpochOrder


class Unit(NamedTuple):
    """Rows of one block for one lane, in reading order."""

    lane: int
    part: str
    rows: list[int]


def plan_units(
    order: EpochOrder, rows: RowTable, lanes: Iterable[int], start: int, count: int, *, max_rows: int
) -> list[Unit]:
    """Return the units of the next rows of each lane, in the order in which they are needed.

    Args:
        order: the order of the epoch.
        rows: the usable rows of the collection.
        lanes: the lanes of this worker.
        start: first position within each lane.
        count: number of rows of each lane.
        max_rows: maximum number of rows in a unit, which a worker holds in memory for each lane.
    """
    units_by_position = []
    for lane in lanes:
        position = 0
        for block, lane_rows in groupby(order.rows(lane, start, count), key=lambda lane_row: lane_row[0]):
            numbers = [int(rows.train[block][index]) for _, index in lane_rows]
            for first in range(0, len(numbers), max_rows):
                unit_rows = numbers[first : first + max_rows]
                units_by_position.append((position, Unit(lane, rows.parts[block], unit_rows)))
                position += len(unit_rows)
    return [unit for _, unit in sorted(units_by_position, key=lambda pair: (pair[0], pair[1].lane))]


class LaneQueues:
    """Queues of incoming tasks, one per lane, that yield complete steps."""

    def __init__(self, lanes: Iterable[int], take: int):
        """Create a queue for each lane.

        Args:
            lanes: the lanes of this worker, in their order within a step.
            take: tasks per lane in a step.
        """
        self._queues: dict[int, deque[Task]] = {lane: deque() for lane in lanes}
        self._take = take

    def add(self, lane: int, tasks: Iterable[Task]) -> None:
        """Append the next tasks of a lane."""
        self._queues[lane].extend(tasks)

    def steps(self) -> Iterator[list[Task]]:
        """Yield the tasks of each step for which all lanes have enough tasks."""
        while all(len(queue) >= self._take for queue in self._queues.values()):
            yield [queue.popleft() for queue in self._queues.values() for _ in range(self._take)]
