"""The part driver: map a plain function over part names, skip the finished ones, say how it goes.

A part is the unit of work, retry and resume. The driver never moves pixels: a task gets a part's name, reads the part,
computes, writes its own part atomically and returns one row of statistics.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import ray
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from fss.core.system import available_cores
from pipelines.runtime.config import Device
from pipelines.runtime.part_progress import PartProgress
from pipelines.runtime.ray_session import count_gpus, is_local

Statistics = dict[str, Any]
PartFunction = Callable[[str], Mapping[str, Any]]
ManyPartsFunction = Callable[[Sequence[str]], Iterator[tuple[str, Mapping[str, Any] | Exception]]]

BATCH = 10_000  # names per Ray Data execution, so that a collection of 1e7 parts never becomes one list of blocks
MAX_FAILED = 5  # a part may be damaged; more than a few failing parts mean that the rest would fail too


class PartError(RuntimeError):
    """One or more parts could not be made; everything finished before stays finished."""


@dataclass(frozen=True, kw_only=True)
class OnActors:
    """Parts made by processes that stay, such as one per GPU: each takes several names at a time and works ahead."""

    function: ManyPartsFunction
    """Makes the parts of some names and yields each with its statistics or its error. Must be picklable."""
    actors: int
    """Processes."""
    gpus: float
    """GPUs of each; a fraction lets several processes share one."""
    names: int = 8
    """Part names at a time: at least two, or nothing can be done ahead; a killed process has them made again."""


@dataclass(frozen=True, kw_only=True)
class PartsResult:
    """What a pass over the parts did."""

    statistics: list[Statistics]
    """One row per part made in this pass, sorted by part name; numbers and strings only."""
    skipped: int
    """Parts that were finished before."""
    seconds: float
    """Wall-clock time of the pass."""

    def total(self, key: str) -> int:
        """Return the sum of a count over the parts made in this pass."""
        return sum(int(row.get(key, 0)) for row in self.statistics)


def on_device(
    part_function: PartFunction, parts_function: ManyPartsFunction, *, device: Device, actors_per_gpu: int = 1
) -> PartFunction | OnActors:
    """Choose how parts are made: one task per part on CPUs, or processes that stay on GPUs.

    Args:
        part_function: makes one part on a CPU.
        parts_function: makes several parts on the device.
        device: where the network runs, resolved.
        actors_per_gpu: processes that share a GPU.
    """
    assert device != "auto", "resolve_device has filled in the device"
    if device == "cpu":
        return part_function
    gpus = max(1, count_gpus()) if device == "cuda" else 0
    actors = gpus * actors_per_gpu if gpus else 1
    return OnActors(function=parts_function, actors=actors, gpus=1 / actors_per_gpu if gpus else 0.0)


def run_parts(
    names: Sequence[str],
    function: PartFunction | OnActors,
    *,
    stage: str,
    finished: Collection[str] = frozenset(),
    workers: int | None = None,
    on_part: Callable[[Statistics], None] | None = None,
    out: TextIO | None = None,
) -> PartsResult:
    """Map ``function`` over the part names that are not finished, one process and one thread per part.

    Args:
        names: the parts of the collection.
        function: makes one part and returns its row of statistics (JSON values). The counts ``images``, ``accepted``,
            ``rejected`` and ``errors``, where present, are shown in the progress lines. Must be picklable. Or a
            function of several names, with the processes that stay for it.
        stage: the word in front of every progress line.
        finished: names to skip.
        workers: tasks at a time; by default one more than the machine's cores, or whatever a cluster of several nodes
            offers.
        on_part: called in the driver with each row as it arrives, in no particular order.
        out: where progress lines go; standard error by default.

    Raises:
        PartError: naming the parts that failed and the first error. Parts that worked are finished and stay.
    """
    todo = [name for name in names if name not in finished]
    progress = PartProgress(stage, parts=len(todo), skipped=len(names) - len(todo), out=out or sys.stderr)
    rows: list[Statistics] = []
    failed: dict[str, str] = {}
    for start in range(0, len(todo), BATCH):
        for row in _execute(todo[start : start + BATCH], function, workers):
            if row["failure"]:
                failed[row["part"]] = row["failure"]
                if len(failed) >= MAX_FAILED:
                    raise _part_error(stage, failed)
                continue
            statistics = {"part": row["part"], "seconds": row["seconds"]} | json.loads(row["statistics"])
            rows.append(statistics)
            progress.add(statistics)
            if on_part:
                on_part(statistics)
    if failed:
        raise _part_error(stage, failed)
    progress.close()
    rows.sort(key=lambda row: str(row["part"]))
    return PartsResult(statistics=rows, skipped=len(names) - len(todo), seconds=progress.seconds())


def _execute(names: list[str], function: PartFunction | OnActors, workers: int | None) -> Iterator[dict[str, Any]]:
    if isinstance(function, OnActors):
        blocks = -(-len(names) // function.names)
        dataset = ray.data.from_items(names, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(function.function,),
            batch_size=None,  # a block as it is
            num_cpus=1,
            num_gpus=function.gpus or None,
            compute=ActorPoolStrategy(size=min(function.actors, blocks)),
        )
        yield from dataset.iter_rows()
        return
    if workers is None and is_local():
        # Ray Data looks for finished tasks ten times a second (2.60): one more task than cores fills the pauses.
        workers = available_cores() + 1
    # One block per name: read_parquet would join small parts into one block and split large ones (Ray 2.60).
    dataset = ray.data.from_items(names, override_num_blocks=len(names)).map(
        _Task(function), num_cpus=1, compute=TaskPoolStrategy(size=workers and min(workers, len(names)))
    )
    yield from dataset.iter_rows()


class _Task:
    """The function in a worker: single-threaded, its errors turned into values that carry the part's name."""

    def __init__(self, function: PartFunction) -> None:
        self.function = function

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        _single_thread()
        start = time.perf_counter()
        try:
            outcome: Mapping[str, Any] | Exception = self.function(row["item"])
        except Exception as failure:
            outcome = failure
        return _row(row["item"], outcome, start)


class _Actor:
    """The function of several names in a process that stays."""

    def __init__(self, function: ManyPartsFunction) -> None:
        self.function = function

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        _single_thread()
        start = time.perf_counter()
        for part, outcome in self.function([str(name) for name in batch["item"]]):
            yield {name: [value] for name, value in _row(part, outcome, start).items()}
            start = time.perf_counter()


def _row(part: str, outcome: Mapping[str, Any] | Exception, start: float) -> dict[str, Any]:
    """What crosses the process border: text, also for an error, so that the driver can name its part."""
    return {
        "part": part,
        "statistics": "{}" if isinstance(outcome, Exception) else json.dumps(dict(outcome)),
        "failure": "".join(traceback.format_exception(outcome)) if isinstance(outcome, Exception) else "",
        "seconds": time.perf_counter() - start,
    }


def _single_thread() -> None:
    import cv2

    cv2.setNumThreads(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _part_error(stage: str, failed: dict[str, str]) -> PartError:
    name, trace = next(iter(failed.items()))
    reason = trace.strip().splitlines()[-1]
    others = f" (and {len(failed) - 1} more: {', '.join(list(failed)[1:])})" if len(failed) > 1 else ""
    return PartError(f"{stage} failed on part {name}{others}: {reason}\n{trace}")
