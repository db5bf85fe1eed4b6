"""What a worker does with the parts of a call: it makes them on one thread, and reports them as they are finished."""

import faulthandler
import itertools
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
"""What a worker reports of a part: part, statistics, failure (text, empty if there is none), outage (whether the
failure is one of disk, network or memory) and seconds."""
ManyPartsFunction = Callable[[Sequence[str]], Iterator[tuple[str, Mapping[str, Any] | Exception]]]

FLUSH_S = 0.2  # a worker reports its parts when this time has passed since its last report


def serve_parts(function: ManyPartsFunction, names: Sequence[str], timeout_s: float | None) -> Iterator[Any]:
    """Make parts in a worker: yield the id of its node, and then lists of rows as the parts are finished.

    A part that exceeds its time ends the process, also where compiled code holds the interpreter.
    """
    import ray

    single_thread()
    yield ray.get_runtime_context().get_node_id()
    rows: list[Row] = []
    flushed = start = time.monotonic()
    for part, outcome in _watched(_complete(function, names), timeout_s):
        now = time.monotonic()
        rows.append(make_row(part, outcome, now - start))
        start = now
        if now - flushed >= FLUSH_S:
            yield rows
            rows, flushed = [], time.monotonic()
    if rows:
        yield rows


def make_row(part: str, outcome: Mapping[str, Any] | Exception, seconds: float) -> Row:
    """Return the report of a part; a failure is plain text, because not every error can be pickled."""
    row: Row = {"part": part, "statistics": {}, "failure": "", "outage": False, "seconds": seconds}
    if isinstance(outcome, Exception):
        outage = isinstance(outcome, (OSError, MemoryError))
        return row | {"failure": "".join(traceback.format_exception(outcome)), "outage": outage}
    return row | {"statistics": dict(outcome)}


def one_by_one(function: Callable[[str], Mapping[str, Any]]) -> ManyPartsFunction:
    """Return a function of many parts that makes one after the other."""

    def make(names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | Exception]]:
        for name in names:
            try:
                yield name, function(name)
            except Exception as failure:
                yield name, failure

    return make


def single_thread() -> None:
    """Let numeric libraries use one thread, because there is a process per core."""
    import cv2

    cv2.setNumThreads(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _complete(function: ManyPartsFunction, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | Exception]]:
    """Yield an outcome for every name, also if the function itself raises, for example where it loads a network."""
    remaining = dict.fromkeys(names)
    try:
        for part, outcome in function(names):
            del remaining[part]
            yield part, outcome
    except Exception as failure:
        yield from zip(remaining, itertools.repeat(failure))


def _watched(outcomes: Iterator[Any], timeout_s: float | None) -> Iterator[Any]:
    """Yield the outcomes; end the process if one takes longer than ``timeout_s``."""
    if timeout_s is None:
        yield from outcomes
        return
    try:
        while True:
            # A thread in C watches, which needs no interpreter lock. The log of the worker gets the traceback.
            faulthandler.dump_traceback_later(timeout_s, exit=True, file=2)
            try:
                outcome = next(outcomes)
            except StopIteration:
                return
            faulthandler.cancel_dump_traceback_later()
            yield outcome
    finally:
        faulthandler.cancel_dump_traceback_later()
