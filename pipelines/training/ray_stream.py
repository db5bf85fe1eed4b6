"""MaskSplit episodes that Ray Data tasks prepare, on any CPU of the cluster.

The steps are bit-identical to those of ``MaskSplitStream`` and ``MixedStream``. Nothing is cached between epochs, and a
training worker holds at most one unit of each of its lanes and collections, so the size of a collection is not limited.
"""

import functools
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import Dataset, ExecutionResources

from fss.collection import Collection, MaskSet
from fss.episodes.episode import RawEpisodes
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.mixed_stream import MixedStream
from fss.training.few_shot.remote_units import LaneQueues, Unit, plan_units
from fss.training.few_shot.tasks import TaskSettings, collate, read_part_tasks
from fss.training.lanes import Draw
from pipelines.runtime.ray_session import count_cpus, is_local

UNIT = 64  # rows of a unit: 50 MB at 400 px, which fits into a worker, and enough work to outweigh the cost of a task
BLOCK = 8 * 2**20  # bytes of a block: several blocks fit into the object store of a local Ray
TASKS_PER_BLOCK = 8
WINDOW = 2_000  # steps of one Ray Data execution, so that an epoch of 1e8 images never becomes one list of units

LaneDraws = Mapping[int, Sequence[tuple[int, Draw]]]
"""The collection of each draw of each lane, and the draw within it."""


class RayDecoding:
    """Preparation of a stream's steps by Ray Data."""

    _reserved, _world = 0.0, 1

    def leave_cpus(self, reserved: float, world: int = 1) -> None:
        """Reserve CPUs for all training workers together; the streams of the workers share the others."""
        self._reserved, self._world = reserved, world

    def steps_on_ray(
        self,
        streams: Sequence[MaskSplitStream],
        draws: Callable[[int, int], LaneDraws],
        steps: range,
        take: int,
    ) -> Iterator[RawEpisodes]:
        """Yield some steps.

        Args:
            streams: the stream of each collection.
            draws: returns the draws of each lane, from the number of the first step and the number of steps.
            steps: numbers of the steps.
            take: draws of a lane in a step.
        """
        orders, rows = [stream.order for stream in streams], [stream.rows for stream in streams]
        masks, settings = [stream.mask_set for stream in streams], streams[0].settings(0)
        for first in steps[::WINDOW]:
            lane_draws = draws(first, min(WINDOW, steps.stop - first))
            units = plan_units(lane_draws, orders, rows, max_rows=UNIT)
            queues = LaneQueues({lane: [source for source, _ in own] for lane, own in lane_draws.items()}, take)
            yield from _steps(units, queues, masks, settings, take, free_cpus(self._reserved, self._world))


class RayMaskSplitStream(RayDecoding, MaskSplitStream):
    """Episodes of MaskSplit, prepared by Ray Data."""

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        take = self._rows_per_lane

        def draws(first: int, count: int) -> LaneDraws:
            positions = range(first * take, (first + count) * take)
            return {lane: [(0, Draw(epoch, position, lane)) for position in positions] for lane in self.lanes}

        return self.steps_on_ray([self], draws, range(start, self.steps_per_epoch), take)


class RayMixedStream(RayDecoding, MixedStream):
    """Episodes of MaskSplit from several collections, prepared by Ray Data."""

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        def draws(first: int, count: int) -> LaneDraws:
            return {lane: self.draws(lane, epoch, first, count) for lane in self.lanes}

        streams = cast("list[MaskSplitStream]", self.streams)
        return self.steps_on_ray(streams, draws, range(start, self.steps_per_epoch), self.take)


def free_cpus(reserved: float, world: int) -> float:
    """Return the CPUs for the decoding of one of ``world`` workers, which reserve some CPUs together.

    Raises:
        ValueError: the workers of this machine leave no CPU.
    """
    free = count_cpus() - reserved
    if free < 1 and is_local():
        raise ValueError(
            f"the training workers' {reserved:g} of {count_cpus()} CPUs leave none for decoding by Ray Data; "
            "use fewer workers or --loader worker"
        )
    return max(1.0, free / world)


def _steps(
    units: Sequence[Unit],
    queues: LaneQueues,
    masks: Sequence[MaskSet],
    settings: TaskSettings,
    take: int,
    cpus: float,
) -> Iterator[RawEpisodes]:
    """Yield the steps whose tasks are in some units; a unit names its mask set and its epoch."""
    for block in _dataset(units, masks, settings, cpus).iter_batches(batch_size=None, batch_format="pyarrow"):
        table = cast(pa.Table, block)
        names = (table.column(name).to_pylist() for name in ("lane", "source"))
        for lane, source, tasks in zip(*names, table.column("tasks"), strict=True):
            queues.add(lane, pickle.loads(tasks.as_buffer()), source)
        yield from (collate(step, take) for step in queues.steps())


def _dataset(units: Sequence[Unit], masks: Sequence[MaskSet], settings: TaskSettings, cpus: float) -> Dataset:
    names = [(each.collection.uri, each.name) for each in masks]
    make = functools.partial(_make_unit, masks=names, settings=settings)
    # One input block per unit, and output blocks of a few megabytes, so that steps start before a unit is complete.
    dataset: Dataset = ray.data.from_items([unit._asdict() for unit in units], override_num_blocks=len(units))
    dataset = dataset.map_batches(make, batch_size=None, batch_format="numpy", num_cpus=1)
    dataset.context.target_max_block_size = BLOCK
    dataset.context.execution_options.preserve_order = True
    dataset.context.execution_options.resource_limits = ExecutionResources(cpu=cpus)
    return dataset


@functools.lru_cache(16)
def _open(collection: str, mask_set: str) -> tuple[Collection, MaskSet]:
    images = Collection.open(collection)
    return images, images.mask_set(mask_set)


def _make_unit(
    batch: dict[str, Any], *, masks: Sequence[tuple[str, str]], settings: TaskSettings
) -> Iterator[pa.Table]:
    """Yield the tasks of one unit as tables with the columns lane, source and tasks (pickled), a few tasks per row."""
    names = ("lane", "source", "epoch", "part", "rows")
    for lane, source, epoch, part, rows in zip(*(batch[name] for name in names), strict=True):
        collection, mask_set = _open(*masks[int(source)])
        settings = replace(settings, epoch=int(epoch))
        tasks = read_part_tasks(collection, mask_set, str(part), [int(row) for row in rows], settings)
        while chunk := list(islice(tasks, TASKS_PER_BLOCK)):
            # Pickled, because Ray Data's conversion of arrays to tables costs half as much as the decoding.
            packed = pa.array([pickle.dumps(chunk, protocol=5)], pa.large_binary())
            yield pa.table({"lane": [int(lane)], "source": [int(source)], "tasks": packed})
