"""Parts made in stages: images are read and decoded ahead, and rows are encoded and written behind the work.

A process takes several part names. A thread reads and decodes the next batches while the caller works on one, and
other threads encode and write the batches before, so that a GPU waits for neither.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fss.collection.part_io import read_image_bytes
from fss.images.decode import DecodeError, decode_image
from fss.images.limits import DecodeLimits

PREFETCH_DEPTH = 2  # batches decoded in advance
ENCODERS = 4  # threads that encode masks
IMAGE_COLUMNS = ["image_id", "image", "uri", "error"]
"""What is read of an image part."""

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
Row = dict[str, Any]
Statistics = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A row of an image part, decoded."""

    image_id: str
    """Its identity."""
    rgb: npt.NDArray[np.uint8] | None
    """uint8 [H,W,3]; None where there is an error."""
    error: str | None
    """Why it cannot be used."""


def decode_row(record: Mapping[str, Any], limits: DecodeLimits) -> DecodedImage:
    """Decode a row of an image part (:data:`IMAGE_COLUMNS`); what fails carries its reason."""
    rgb, error = None, record["error"]
    if not error:
        try:
            rgb = decode_image(read_image_bytes(record["image"], record["uri"], limits), limits)
        except DecodeError as failure:
            error = str(failure)
        except Exception as failure:
            error = stage_error(failure, "decode")
    return DecodedImage(image_id=record["image_id"], rgb=rgb, error=error)


def stage_error(failure: Exception, stage: str) -> str:
    """The error of a row whose picture a stage could not take."""
    return f"{stage}: {type(failure).__name__}: {failure}"


def process_parts(
    parts: Sequence[str],
    *,
    read: Callable[[str], Iterator[list[P]]],
    work: Callable[[list[P]], Sequence[R]],
    encode: Callable[[P, R], Row],
    write: Callable[[str, list[Row]], Statistics],
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Make parts with reading, work and writing side by side.

    Args:
        parts: names of parts.
        read: yields a part's items, batch by batch; called in a thread ahead of the work.
        work: one result for each item of a batch; called in this thread, where the network is.
        encode: the row of an item; called in several threads.
        write: writes a part's rows and returns its statistics; called in a thread behind the work.

    Yields:
        Each part with its statistics once it is written, or with what went wrong; the other parts go on.
    """
    rows: list[Future[Row]] = []
    writing: deque[tuple[str, Future[Statistics]]] = deque()
    failed = ""
    with ThreadPoolExecutor(ENCODERS) as encoders, ThreadPoolExecutor(1) as writer:
        for part, batch in prefetch(_guarded(parts, read)):
            if part == failed:
                continue
            pairs = _pairs(work, batch)
            if isinstance(pairs, Exception):
                rows, failed = [], part
                yield part, pairs
            elif pairs:
                rows += [encoders.submit(encode, *pair) for pair in pairs]
            else:
                writing.append((part, writer.submit(_write, write, part, rows)))
                rows = []
                if len(writing) > 1:  # at most one finished part waits for the store
                    yield _outcome(*writing.popleft())
        while writing:
            yield _outcome(*writing.popleft())


def prefetch(items: Iterator[T], depth: int = PREFETCH_DEPTH) -> Iterator[T]:
    """Iterate, with the next ``depth`` items made in a thread while the caller is busy."""
    with ThreadPoolExecutor(1) as pool:
        end = object()
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]  # the end is the only object that is no T


def _guarded(
    parts: Sequence[str], read: Callable[[str], Iterator[list[P]]]
) -> Iterator[tuple[str, list[P] | Exception]]:
    """The batches of the parts; an empty batch ends a part, an exception gives it up."""
    for part in parts:
        try:
            for batch in read(part):
                yield part, batch
            yield part, []
        except Exception as failure:  # one damaged part must not cost the others
            yield part, failure


def _pairs(work: Callable[[list[P]], Sequence[R]], batch: list[P] | Exception) -> list[tuple[P, R]] | Exception:
    """The items of a batch with their results, or what went wrong."""
    if isinstance(batch, Exception):
        return batch
    try:
        return list(zip(batch, work(batch), strict=True)) if batch else []
    except Exception as failure:
        return failure


def _write(write: Callable[[str, list[Row]], Statistics], part: str, rows: list[Future[Row]]) -> Statistics:
    return write(part, [row.result() for row in rows])


def _outcome(part: str, written: Future[Statistics]) -> tuple[str, Statistics | Exception]:
    failure = written.exception()
    assert failure is None or isinstance(failure, Exception)
    return (part, failure) if failure else (part, written.result())
