"""MaskSplit episodes that Ray Data tasks prepare, on any CPU of the cluster.

The steps are bit-identical to those of ``MaskSplitStream``. Nothing is cached between epochs, and a training worker
holds at most one unit of each of its lanes, so the size of the collection is not limited.
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

UNIT = 64  # rows of a unit: 50 MB at 400 px, which fits into a worker, and enough work to outweigh the cost of a task
BLOCK = 8 * 2**20  # bytes of a block: several blocks fit into the object store of a local Ray
TASKS_PER_BLOCK = 8
WINDOW = 2_000  # steps of one Ray Data execution, so that an epoch of 1e8 images never becomes one list of units


class RayMaskSplitStream(MaskSplitStream):
    """Episodes of MaskSplit, prepared by Ray Data."""

    _reserved = 0.0

    def leave_cpus(self, reserved: float) -> None:
        """Reserve CPUs for all training workers together; the streams of the workers share the others."""
        self._reserved = reserved

    def _free_cpus(self) -> float:
        free = count_cpus() - self._reserved
        if free < 1 and is_local():
            raise ValueError(
                f"the training workers' {self._reserved:g} of {count_cpus()} CPUs leave none for decoding by Ray Data; "
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
        masks = self.mask_set.collection.uri, self.mask_set.name
        make = functools.partial(_make_unit, masks=masks, settings=settings)
        # One input block per unit, and output blocks of a few megabytes, so that steps start before a unit is complete.
        dataset: Dataset = ray.data.from_items([unit._asdict() for unit in units], override_num_blocks=len(units))
        dataset = dataset.map_batches(make, batch_size=None, batch_format="numpy", num_cpus=1)
        dataset.context.target_max_block_size = BLOCK
        dataset.context.execution_options.preserve_order = True
        dataset.context.execution_options.resource_limits = ExecutionResources(cpu=self._free_cpus())
        return dataset


@functools.lru_cache(1)
def _open(collection: str, mask_set: str) -> tuple[Collection, MaskSet]:
    images = Collection.open(collection)
    return images, images.mask_set(mask_set)


def _make_unit(batch: dict[str, Any], *, masks: tuple[str, str], settings: TaskSettings) -> Iterator[pa.Table]:
    """Yield the tasks of one unit as tables with the columns lane and tasks (pickled), a few tasks per row."""
    collection, mask_set = _open(*masks)
    for lane, part, rows in zip(batch["lane"], batch["part"], batch["rows"], strict=True):
        tasks = read_part_tasks(collection, mask_set, str(part), [int(row) for row in rows], settings)
        while chunk := list(islice(tasks, TASKS_PER_BLOCK)):
            # Pickled, because Ray Data's conversion of arrays to tables costs half as much as the decoding.
            packed = pa.array([pickle.dumps(chunk, protocol=5)], pa.large_binary())
            yield pa.table({"lane": [int(lane)], "tasks": packed})
