"""The part driver: map a function over part names, skip the finished parts, and print progress.

A part is the unit of work, retry and resume. The driver never moves pixels: a task gets the name of a part, reads it,
writes its own part atomically, and returns one row of statistics.

A part that fails is made again after all others. If it fails in every try and its stage can leave out rows, the rows at
fault are searched by halves, and the part is made with their reasons in place of their results.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from fss.collection.part_pipeline import RowSelection
from pipelines.runtime.config import Device, PartFailureConfig
from pipelines.runtime.faulty_rows import Probe, RowFunction, make_without_faulty_rows
from pipelines.runtime.part_progress import PartProgress
from pipelines.runtime.part_queue import PartQueue
from pipelines.runtime.part_worker import ManyPartsFunction, make_row, one_by_one

Statistics = dict[str, Any]
PartFunction = Callable[[str], Mapping[str, Any]]

POLL_S = 1.0  # the driver looks at clock and cluster at least this often
SEARCHED = 20  # failed parts in which rows at fault are searched at least; more of them have another reason
LISTED = 20  # failed parts in a message


class PartError(RuntimeError):
    """More parts failed than the settings allow; the finished parts remain."""


@dataclass(frozen=True, kw_only=True)
class OnActors:
    """Parts made by long-lived processes, such as one per GPU, which take several names at a time and work ahead."""

    function: ManyPartsFunction
    """Makes parts and yields the name of each with its statistics or its error; picklable."""
    actors: int | None
    """Most processes. None: as many as the cluster has GPUs for, now or later."""
    gpus: float
    """GPUs per process; with a fraction, several processes share one."""
    names: int = 8
    """Most part names per call; several, so that a process can work ahead; a killed process repeats all of them."""


@dataclass(frozen=True, kw_only=True)
class PartsResult:
    """Result of a pass over the parts."""

    made: int
    """Number of parts made in this pass."""
    totals: Mapping[str, float]
    """Sums of the numbers in the rows of statistics, by name; ``seconds`` is the time that the parts took."""
    skipped: int
    """Number of parts that were finished before."""
    seconds: float
    """Wall-clock time of the pass."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reasons of the parts that failed in every try, by name; they do not exist."""
    faulty_rows: dict[str, dict[str, str]] = field(default_factory=dict)
    """Reasons of the pictures that made their part fail, by part and picture; the parts exist, with these reasons."""

    def notes(self) -> list[str]:
        """Return a line for every failed part and every picture at fault, up to :data:`LISTED` lines."""
        lines = [f"{part} failed and is missing: {reason}" for part, reason in self.failed.items()]
        for part, reasons in self.faulty_rows.items():
            lines += [f"{picture} in {part} made the part fail: {reason}" for picture, reason in reasons.items()]
        return lines[:LISTED] + ([f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else [])

    def total(self, key: str) -> int:
        """Return the sum of a count over the parts made in this pass."""
        return int(self.totals.get(key, 0))


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
    assert device != "auto", "resolve_device has filled in the device"
    if device == "cpu":
        return part_function
    if device == "cuda":
        return OnActors(function=parts_function, actors=None, gpus=1 / actors_per_gpu)
    return OnActors(function=parts_function, actors=1, gpus=0.0)


def run_parts(
    names: Sequence[str],
    function: PartFunction | OnActors,
    *,
    stage: str,
    finished: Collection[str] = frozenset(),
    workers: int | None = None,
    in_process: bool = False,
    failures: PartFailureConfig | None = None,
    by_row: RowFunction | None = None,
    on_part: Callable[[Statistics], None] | None = None,
    out: TextIO | None = None,
) -> PartsResult:
    """Map ``function`` over the part names that are not finished, one process and one thread per part.

    Args:
        names: the parts of the collection.
        function: a picklable function that makes one part and returns its row of statistics (plain values), or a
            function of several names with its long-lived processes. Progress lines show the counts ``images``,
            ``accepted``, ``rejected`` and ``errors`` of the rows.
        stage: prefix of the progress lines.
        finished: names to skip.
        workers: most concurrent tasks or processes. None: one more than the machine's cores, or all CPUs or GPUs that
            a cluster has or gets.
        in_process: make the parts one after the other in this process, without Ray.
        failures: what happens to parts that fail or take too long.
        by_row: makes some rows of a part, to find those at fault in a part that fails. None: the whole part fails.
        on_part: called in the driver with each row, in the order of arrival; the rows are not kept.
        out: stream for progress lines. None: standard error.

    Raises:
        PartError: more parts failed than allowed; the message has their names and the first error. The other parts are
            finished.
    """
    failures, out = failures or PartFailureConfig(), out or sys.stderr
    unfinished = [name for name in names if name not in finished]
    allowed = int(failures.max_failed_parts * len(names))
    progress = PartProgress(stage, parts=len(unfinished), skipped=len(names) - len(unfinished), out=out)
    queue, totals = PartQueue(unfinished), defaultdict[str, float](float)

    def add(report: Mapping[str, Any]) -> None:
        queue.finish(report["part"])
        row = {"part": report["part"], "seconds": report["seconds"], **report["statistics"]}
        for name, value in row.items():
            if isinstance(value, int | float):
                totals[name] += value
        progress.failed = len(queue.failures)
        progress.add(row)
        if on_part:
            on_part(row)

    for report in _in_process(queue, function) if in_process else _on_ray(queue, function, workers, failures, progress):
        if not report["failure"]:
            add(report)
            continue
        queue.fail(report["part"], report["failure"])
        progress.failed = len(queue.failures)
        if queue.hopeless(allowed):
            raise _part_error(stage, queue.failures)
    faulty_rows: dict[str, dict[str, str]] = {}
    if by_row is not None and len(queue.given_up) <= max(allowed, SEARCHED):
        for part in queue.given_up:
            progress.note(f"{part} failed in every try; the rows at fault are searched")
            probe = _probe_in_process(by_row, part) if in_process else _probe_on_ray(by_row, part, failures)
            reasons, made = _make_without_faulty_rows(part, by_row, probe)
            if made is not None:
                faulty_rows[part] = reasons
                add({**made, "part": part})
    if len(queue.given_up) > allowed:
        raise _part_error(stage, queue.given_up)
    progress.failed = len(queue.failures)
    progress.close()
    return PartsResult(
        made=progress.finished,
        totals=totals,
        skipped=len(names) - len(unfinished),
        seconds=progress.seconds(),
        failed={part: reason.strip().splitlines()[-1] for part, reason in sorted(queue.given_up.items())},
        faulty_rows=faulty_rows,
    )


def _in_process(queue: PartQueue, function: PartFunction | OnActors) -> Iterator[Mapping[str, Any]]:
    assert not isinstance(function, OnActors), "actors need Ray"
    make = one_by_one(function)
    while queue:
        start = time.perf_counter()
        ((part, outcome),) = make(queue.take(1))
        yield make_row(part, outcome, time.perf_counter() - start)


def _on_ray(
    queue: PartQueue,
    function: PartFunction | OnActors,
    workers: int | None,
    failures: PartFailureConfig,
    progress: PartProgress,
) -> Iterator[Mapping[str, Any]]:
    """Keep calls in flight until the queue is empty, and yield the rows as they arrive."""
    if not queue:
        return
    from pipelines.runtime.part_calls import ActorCalls, Calls, Crash, TaskCalls
    from pipelines.runtime.ray_session import is_local

    timeout_s = failures.part_timeout
    if isinstance(function, OnActors):
        actors = function.actors if workers is None else min(workers, function.actors or workers)
        calls: Calls = ActorCalls(
            function.function, actors=actors, gpus=function.gpus, names=function.names, timeout_s=timeout_s
        )
    else:
        calls = TaskCalls(one_by_one(function), workers=workers, timeout_s=timeout_s)
    try:
        while queue or calls.in_flight:
            while size := calls.room(len(queue)):
                calls.submit(queue.take(size))
            for report in calls.poll(POLL_S):
                if isinstance(report, Crash):
                    queue.crash(report.names, report.reason, machine_lost=report.machine_lost)
                    continue
                yield from report
            progress.tick(calls.running(), waits_for=None if is_local() else calls.missing())
    finally:
        calls.close()


def _make_without_faulty_rows(
    part: str, by_row: RowFunction, probe: Probe
) -> tuple[dict[str, str], Mapping[str, Any] | None]:
    """Make a part without its rows at fault; return their reasons by picture, and the report of the part or None."""
    try:
        pictures = by_row.pictures(part)
    except Exception:  # the part cannot be read at all, which is the reason that it already has
        return {}, None
    reasons, report = make_without_faulty_rows(len(pictures), probe)
    return {pictures[row]: reason for row, reason in reasons.items()}, report


def _probe_in_process(by_row: RowFunction, part: str) -> Probe:
    def probe(selections: Sequence[RowSelection]) -> list[Mapping[str, Any]]:
        make = one_by_one(lambda key: by_row.function(part, selection=selections[int(key)]))
        return [make_row(key, outcome, 0.0) for key, outcome in make([str(key) for key in range(len(selections))])]

    return probe


def _probe_on_ray(by_row: RowFunction, part: str, failures: PartFailureConfig) -> Probe:
    """Return a probe that makes each selection in a task of its own, whose process may die."""
    from pipelines.runtime.part_calls import Crash, TaskCalls

    def probe(selections: Sequence[RowSelection]) -> list[Mapping[str, Any]]:
        function, selected = by_row.function, list(selections)
        make = one_by_one(lambda key: function(part, selection=selected[int(key)]))
        calls = TaskCalls(make, workers=None, timeout_s=failures.part_timeout, gpus=by_row.gpus)
        reports: dict[str, Mapping[str, Any]] = {}
        for key in range(len(selected)):
            calls.submit([str(key)])
        while calls.in_flight:
            for report in calls.poll(POLL_S):
                rows = (
                    [make_row(key, RuntimeError(report.reason), 0.0) for key in report.names]
                    if isinstance(report, Crash)
                    else report
                )
                reports |= {row["part"]: row for row in rows}
        return [reports[str(key)] for key in range(len(selected))]

    return probe


def _part_error(stage: str, failed: Mapping[str, str]) -> PartError:
    name, trace = next(iter(failed.items()))
    reason = trace.strip().splitlines()[-1]
    others = list(failed)[1:]
    more = f", and {len(others) - LISTED} others" if len(others) > LISTED else ""
    also = f" (and {len(others)} more: {', '.join(others[:LISTED])}{more})" if others else ""
    return PartError(f"{stage} failed on part {name}{also}: {reason}\n{trace}")
