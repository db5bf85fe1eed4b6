"""Self-supervised episodes whose pictures are decoded by Ray Data tasks, on any CPU of the cluster.

The steps are those of ``MaskSplitStream``, bit for bit; only the hands that make them are others. Nothing is kept from
one epoch to the next, so collections of any size stream through a training worker, which holds at most a unit of each
of its lanes.
"""

import functools
import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset, ExecutionResources

from fss.collection import Collection, MaskSet
from fss.episodes.episode import RawEpisodes
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.remote_units import LaneQueues, Unit, plan_units
from fss.training.few_shot.tasks import TaskSettings, collate, read_part_tasks
from pipelines.runtime.ray_session import count_cpus, is_local

UNIT = 64  # rows: small against a worker's memory (50 MB at 400 px), large against the cost of a task
BLOCK = 8 * 2**20  # bytes: several fit into the object store of a small local session
TOGETHER = 8  # tasks that leave together
WINDOW = 2_000  # steps of one execution, so that an epoch of 1e8 images never becomes one list of units


class RayMaskSplitStream(MaskSplitStream):
    """Episodes of MaskSplit, made by Ray Data."""

    _taken = 0.0

    def leave_cpus(self, taken: float) -> None:
        """Leave the training workers their CPUs, this many in all; their streams share the others."""
        self._taken = taken

    def _free_cpus(self) -> float:
        free = count_cpus() - self._taken
        if free < 1 and is_local():
            raise ValueError(
                f"the training workers' {self._taken:g} of {count_cpus()} CPUs leave none for decoding by Ray Data; "
                "use fewer workers or --loader worker"
            )
        return max(1.0, free / self._world)

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        order, settings, take = self._order(epoch), self._settings(epoch), self._rows_per_lane
        for first in range(start, self.steps_per_epoch, WINDOW):
            count = min(WINDOW, self.steps_per_epoch - first)
            units = plan_units(order, self.rows, self._lanes, first * take, count * take, max_rows=UNIT)
            queues = LaneQueues(self._lanes, take)
            for block in self._dataset(units, settings).iter_batches(batch_size=None, batch_format="pyarrow"):
                for lane, tasks in zip(
                    block["lane"].to_pylist(),  # type: ignore[union-attr]  # a pyarrow table
                    block["tasks"],
                    strict=True,
                ):
                    queues.add(lane, pickle.loads(tasks.as_buffer()))
                yield from (collate(step, take) for step in queues.steps())

    def _dataset(self, units: list[Unit], settings: TaskSettings) -> Dataset:
        place = self.mask_set.collection.uri, self.mask_set.name
        make = functools.partial(_make_unit, place=place, settings=settings)
        # One block per unit; a unit's tasks leave in blocks of a few megabytes.
        dataset: Dataset = ray.data.from_items([unit._asdict() for unit in units], override_num_blocks=len(units))
        dataset = dataset.map_batches(make, batch_size=None, batch_format="numpy", num_cpus=1)
        dataset.context.target_max_block_size = BLOCK
        dataset.context.execution_options.preserve_order = True
        dataset.context.execution_options.resource_limits = ExecutionResources(cpu=self._free_cpus())
        return dataset


@functools.lru_cache(1)
def _open(collection: str, mask_set: str) -> tuple[Collection, MaskSet]:
    opened = Collection.open(collection)
    return opened, opened.mask_set(mask_set)


def _make_unit(batch: dict[str, Any], *, place: tuple[str, str], settings: TaskSettings) -> Iterator[pa.Table]:
    """Make the tasks of one unit, a few at a time."""
    collection, mask_set = _open(*place)
    for lane, part, rows in zip(batch["lane"], batch["part"], batch["rows"], strict=True):
        tasks = read_part_tasks(collection, mask_set, str(part), [int(row) for row in rows], settings)
        while few := list(islice(tasks, TOGETHER)):
            # As bytes in a finished table: Ray Data's way from arrays to tables costs half as much as the decoding.
            packed = pa.array([pickle.dumps(few, protocol=5)], pa.large_binary())
            yield pa.table({"lane": [int(lane)], "tasks": packed})
