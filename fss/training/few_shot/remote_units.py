"""A lane's rows cut into units of one part each, for making tasks far from the training, and put together again.

A unit is what one remote call makes: some rows of one part, in the order in which a lane reads them. A worker asks for
the units of all its lanes in the order in which it needs them, and deals what comes back into steps.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from fss.training.few_shot.tasks import Task
from fss.training.few_shot.usable_rows import RowTable
from fss.training.lanes import EpochOrder


class Unit(NamedTuple):
    """Some rows of one part, for one lane."""

    lane: int
    part: str
    rows: list[int]


def plan_units(
    order: EpochOrder, rows: RowTable, lanes: Iterable[int], start: int, count: int, *, max_rows: int
) -> list[Unit]:
    """Return the units of ``count`` rows of each lane from position ``start``, in the order in which they are needed.

    Args:
        order: of the epoch.
        rows: the scan of the collection.
        lanes: of this worker.
        start: position within each lane.
        count: rows of each lane.
        max_rows: rows of a unit at max_rows: what a worker keeps in memory for a lane.
    """
    found = []
    for lane in lanes:
        position = 0
        for part, places in groupby(order.rows(lane, start, count), key=lambda place: place[0]):
            numbers = [int(rows.train[part][number]) for _, number in places]
            for first in range(0, len(numbers), max_rows):
                chosen = numbers[first : first + max_rows]
                found.append((position, Unit(lane, rows.parts[part], chosen)))
                position += len(chosen)
    return [unit for _, unit in sorted(found, key=lambda pair: (pair[0], pair[1].lane))]


class LaneQueues:
    """Tasks of several lanes, as they come in, dealt out in steps."""

    def __init__(self, lanes: Iterable[int], take: int):
        """Open a queue for each lane.

        Args:
            lanes: of this worker, in the order in which a step has them.
            take: tasks of each lane in a step.
        """
        self._queues: dict[int, deque[Task]] = {lane: deque() for lane in lanes}
        self._take = take

    def add(self, lane: int, tasks: Iterable[Task]) -> None:
        """Take tasks of a lane, which are the next ones of their lane."""
        self._queues[lane].extend(tasks)

    def steps(self) -> Iterator[list[Task]]:
        """Yield the tasks of every step that is complete."""
        while all(len(queue) >= self._take for queue in self._queues.values()):
            yield [queue.popleft() for queue in self._queues.values() for _ in range(self._take)]
