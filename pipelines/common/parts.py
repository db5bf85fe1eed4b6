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
from ray.data import TaskPoolStrategy

from pipelines.common.ray_session import available_cores, is_local

Statistics = dict[str, Any]
PartFunction = Callable[[str], Mapping[str, Any]]

BATCH = 10_000  # names per Ray Data execution, so that a collection of 1e7 parts never becomes one list of blocks
MAX_FAILED = 5  # a part may be damaged; more than a few failing parts mean that the rest would fail too


class PartError(RuntimeError):
    """One or more parts could not be made; everything finished before stays finished."""


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


def run_parts(
    names: Sequence[str],
    function: PartFunction,
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
        function: makes one part and returns its row of statistics (JSON values). The counts ``images``, ``accepted``
            and ``rejected``, where present, are shown in the progress lines. Must be picklable.
        stage: the word in front of every progress line.
        finished: names to skip.
        workers: tasks at a time; by default the machine's cores, or whatever a cluster of several nodes offers.
        on_part: called in the driver with each row as it arrives, in no particular order.
        out: where progress lines go; standard error by default.

    Raises:
        PartError: naming the parts that failed and the first error. Parts that worked are finished and stay.
    """
    todo = [name for name in names if name not in finished]
    progress = _Progress(stage, parts=len(todo), skipped=len(names) - len(todo), out=out or sys.stderr)
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


def _execute(names: list[str], function: PartFunction, workers: int | None) -> Iterator[dict[str, Any]]:
    if workers is None and is_local():
        workers = available_cores()
    task = _Task(function)
    # One block per name: read_parquet would join small parts into one block and split large ones (Ray 2.60).
    dataset = ray.data.from_items(names, override_num_blocks=len(names)).map(
        task, num_cpus=1, compute=TaskPoolStrategy(size=workers and min(workers, len(names)))
    )
    yield from dataset.iter_rows()


class _Task:
    """The function in a worker: single-threaded, its errors turned into values that carry the part's name."""

    def __init__(self, function: PartFunction) -> None:
        self.function = function

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        _single_thread()
        start = time.perf_counter()
        statistics, failure = "{}", ""
        try:
            statistics = json.dumps(dict(self.function(row["item"])))
        except Exception:  # crosses a process border as text: the driver names the part
            failure = traceback.format_exc()
        return {
            "part": row["item"],
            "statistics": statistics,
            "failure": failure,
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


class _Progress:
    """Lines a person can read: parts and images done, images per second, time left, accepted and rejected so far."""

    EVERY_S = 10.0

    def __init__(self, stage: str, *, parts: int, skipped: int, out: TextIO) -> None:
        self.stage, self.parts, self.out = stage, parts, out
        self.done = self.images = self.accepted = self.rejected = 0
        self.start = self.last = time.monotonic()
        note = f", {skipped} already finished" if skipped else ""
        self._print(f"{parts} parts to do{note}")

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def add(self, row: Statistics) -> None:
        self.done += 1
        self.images += int(row.get("images", 0))
        self.accepted += int(row.get("accepted", 0))
        self.rejected += int(row.get("rejected", 0))
        if time.monotonic() - self.last >= self.EVERY_S:
            self.last = time.monotonic()
            self._print(self._line())

    def close(self) -> None:
        if self.parts:
            self._print(self._line())

    def _line(self) -> str:
        seconds = max(self.seconds(), 1e-6)
        words = [f"{self.done}/{self.parts} parts"]
        if self.images:
            words.append(f"{self.images:,} images, {self.images / seconds:.1f} images/s")
        if self.accepted or self.rejected:
            words.append(f"{self.accepted:,} accepted, {self.rejected:,} rejected")
        left = (self.parts - self.done) * seconds / max(self.done, 1)
        words.append(f"{_clock(left)} left" if self.done < self.parts else f"took {_clock(seconds)}")
        return ", ".join(words)

    def _print(self, text: str) -> None:
        print(f"[{self.stage}] {text}", file=self.out, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
