"""The part driver: map a function over part names, skip the finished parts, and print progress.

A part is the unit of work, retry and resume. The driver never moves pixels: a task gets the name of a part, reads it,
writes its own part atomically, and returns one row of statistics.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from fss.core.system import available_cores
from pipelines.runtime.config import Device
from pipelines.runtime.part_progress import PartProgress

Statistics = dict[str, Any]
PartFunction = Callable[[str], Mapping[str, Any]]
ManyPartsFunction = Callable[[Sequence[str]], Iterator[tuple[str, Mapping[str, Any] | Exception]]]

BATCH = 10_000  # names per Ray Data execution, so that a collection of 1e7 parts never becomes one list of blocks
MAX_FAILED = 5  # a few parts may be damaged; if more fail, the rest would fail too


class PartError(RuntimeError):
    """One or more parts failed; the finished parts remain."""


@dataclass(frozen=True, kw_only=True)
class OnActors:
    """Parts made by long-lived processes, such as one per GPU, which take several names at a time and work ahead."""

    function: ManyPartsFunction
    """Makes parts and yields the name of each with its statistics or its error; picklable."""
    actors: int
    """Number of processes."""
    gpus: float
    """GPUs per process; with a fraction, several processes share one."""
    names: int = 8
    """Part names per call: at least two, so that a process can work ahead; a killed process repeats all of them."""


@dataclass(frozen=True, kw_only=True)
class PartsResult:
    """Result of a pass over the parts."""

    statistics: list[Statistics]
    """One row per part made in this pass, sorted by part name; numbers and strings only."""
    skipped: int
    """Number of parts that were finished before."""
    seconds: float
    """Wall-clock time of the pass."""

    def total(self, key: str) -> int:
        """Return the sum of a count over the parts made in this pass."""
        return sum(int(row.get(key, 0)) for row in self.statistics)


def on_device(
    part_function: PartFunction, parts_function: ManyPartsFunction, *, device: Device, actors_per_gpu: int = 1
) -> PartFunction | OnActors:
    """Choose the execution for a device: one task per part on CPUs, or long-lived processes on GPUs.

    Args:
        part_function: makes one part on a CPU.
        parts_function: makes several parts on the device.
        device: resolved device of the network.
        actors_per_gpu: processes that share a GPU.
    """
    from pipelines.runtime.ray_session import count_gpus

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
    in_process: bool = False,
    on_part: Callable[[Statistics], None] | None = None,
    out: TextIO | None = None,
) -> PartsResult:
    """Map ``function`` over the part names that are not finished, one process and one thread per part.

    Args:
        names: the parts of the collection.
        function: a picklable function that makes one part and returns its row of statistics (JSON values), or a
            function of several names with its long-lived processes. Progress lines show the counts ``images``,
            ``accepted``, ``rejected`` and ``errors`` of the rows.
        stage: prefix of the progress lines.
        finished: names to skip.
        workers: number of concurrent tasks. None: one more than the machine's cores, or all CPUs of a cluster.
        in_process: make the parts one after the other in this process, without Ray.
        on_part: called in the driver with each row, in the order of arrival.
        out: stream for progress lines. None: standard error.

    Raises:
        PartError: parts failed; the message has their names and the first error. The other parts are finished.
    """
    unfinished = [name for name in names if name not in finished]
    progress = PartProgress(stage, parts=len(unfinished), skipped=len(names) - len(unfinished), out=out or sys.stderr)
    rows: list[Statistics] = []
    failed: dict[str, str] = {}
    for start in range(0, len(unfinished), BATCH):
        batch = unfinished[start : start + BATCH]
        for row in _in_process(batch, function) if in_process else _on_ray(batch, function, workers):
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
    return PartsResult(statistics=rows, skipped=len(names) - len(unfinished), seconds=progress.seconds())


def _in_process(names: list[str], function: PartFunction | OnActors) -> Iterator[dict[str, Any]]:
    assert not isinstance(function, OnActors), "actors need Ray"
    for name in names:
        start = time.perf_counter()
        yield _row(name, _outcome(function, name), start)


def _on_ray(names: list[str], function: PartFunction | OnActors, workers: int | None) -> Iterator[dict[str, Any]]:
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    from pipelines.runtime.ray_session import is_local

    if isinstance(function, OnActors):
        blocks = -(-len(names) // function.names)
        dataset = ray.data.from_items(names, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(function.function,),
            batch_size=None,  # one call per block
            num_cpus=1,
            num_gpus=function.gpus or None,
            compute=ActorPoolStrategy(size=min(function.actors, blocks)),
        )
        yield from dataset.iter_rows()
        return
    if workers is None and is_local():
        # Ray Data 2.60 polls for finished tasks ten times a second; one more task than cores keeps the cores busy.
        workers = available_cores() + 1
    # One block per name: read_parquet would join small parts into one block and split large ones (Ray 2.60).
    dataset = ray.data.from_items(names, override_num_blocks=len(names)).map(
        _Task(function), num_cpus=1, compute=TaskPoolStrategy(size=workers and min(workers, len(names)))
    )
    yield from dataset.iter_rows()


class _Task:
    """Calls the function in a worker, single-threaded."""

    def __init__(self, function: PartFunction) -> None:
        self.function = function

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        _single_thread()
        start = time.perf_counter()
        return _row(row["item"], _outcome(self.function, row["item"]), start)


class _Actor:
    """Calls the function of several names in a long-lived process."""

    def __init__(self, function: ManyPartsFunction) -> None:
        self.function = function

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        _single_thread()
        start = time.perf_counter()
        unfinished = [str(name) for name in batch["item"]]
        try:
            for part, outcome in self.function(list(unfinished)):
                unfinished.remove(part)
                yield {name: [value] for name, value in _row(part, outcome, start).items()}
                start = time.perf_counter()
        except Exception as failure:  # such as a model that cannot be loaded: the driver shall name it, not Ray
            for part in unfinished:
                yield {name: [value] for name, value in _row(part, failure, start).items()}


def _outcome(function: PartFunction, part: str) -> Mapping[str, Any] | Exception:
    """Return the statistics or the error of a part, so that the driver knows which part failed."""
    try:
        return function(part)
    except Exception as failure:
        return failure


def _row(part: str, outcome: Mapping[str, Any] | Exception, start: float) -> dict[str, Any]:
    """Return the row that a worker sends to the driver: plain text, because not every error can be pickled."""
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
