"""A pipeline over parts: images are read and decoded ahead of the computation, masks encoded and written behind it.

One thread reads and decodes the next batches while the caller computes on the current one, and other threads encode and
write the previous ones, so a GPU waits for neither.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fss.collection.part_io import read_image_bytes
from fss.core.prefetch import prefetch
from fss.images.decode import decode_image
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

ENCODERS = 4  # threads that encode masks
IMAGE_COLUMNS = ["image_id", "image", "uri", "error"]
"""Columns of an image part that :func:`decode_row` needs."""

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
Row = dict[str, Any]
Statistics = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class RowSelection:
    """Rows of a part to make: all of them by default."""

    only: range | None = None
    """Rows to compute without writing the part, to find out whether they fail. None: all rows, and the part is
    written."""
    faulty: Mapping[int, str] = field(default_factory=dict)
    """Reasons of rows that are not computed, by position; they become the errors of these rows."""

    def pick(self, rows: Sequence[T]) -> list[T]:
        """Return the selected ones of the rows of a part."""
        return list(rows if self.only is None else rows[self.only.start : self.only.stop])

    def pick_images(self, rows: Sequence[Row]) -> list[Row]:
        """Return the selected rows of an image part, the faulty ones with their error."""
        return self.pick([{**row, "error": row["error"] or self.error(index)} for index, row in enumerate(rows)])

    def error(self, index: int) -> str | None:
        """Return the error of a faulty row; None for other rows."""
        return f"faulty: {self.faulty[index]}" if index in self.faulty else None


ALL_ROWS = RowSelection()


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A decoded row of an image part."""

    image_id: str
    """Id of the image."""
    rgb: npt.NDArray[np.uint8] | None
    """RGB image, uint8 [H,W,3]; None if there is an error."""
    error: str | None
    """Reason why the image is unusable."""


def decode_row(row: Mapping[str, Any], limits: DecodeLimits) -> DecodedImage:
    """Decode a row of an image part (:data:`IMAGE_COLUMNS`); a failure is returned as the image's error.

    Raises:
        OSError: the object store does not answer.
    """
    rgb, error = None, row["error"]
    if not error:
        try:
            rgb = decode_image(read_image_bytes(row["image"], row["uri"], limits, image_id=row["image_id"]), limits)
        except DecodeError as failure:
            error = str(failure)
        except OSError:
            raise
        except Exception as failure:
            error = stage_error(failure, "decode")
    return DecodedImage(image_id=row["image_id"], rgb=rgb, error=error)


def stage_error(failure: Exception, stage: str) -> str:
    """Return the error of a row whose image failed in a stage: ``stage: type: message``."""
    return f"{stage}: {type(failure).__name__}: {failure}"


def process_parts(
    parts: Sequence[str],
    *,
    read: Callable[[str], Iterator[list[P]]],
    work: Callable[[list[P]], Sequence[R]],
    encode: Callable[[P, R], Row],
    write: Callable[[str, list[Row]], Statistics],
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Process parts with overlapped reading, computation and writing.

    Args:
        parts: names of the parts.
        read: yields the items of a part batch by batch; runs in a thread ahead of ``work``.
        work: returns one result per item of a batch; runs in the calling thread.
        encode: returns the row of an item and its result; runs in several threads.
        write: writes the rows of a part and returns its statistics; runs in a thread behind ``work``.

    Yields:
        Each part with its statistics once it is written, or with the exception that it failed with. A failed part does
        not stop the others.
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
                if len(writing) > 1:  # at most one finished part waits to be written
                    yield _outcome(*writing.popleft())
        while writing:
            yield _outcome(*writing.popleft())


def _guarded(
    parts: Sequence[str], read: Callable[[str], Iterator[list[P]]]
) -> Iterator[tuple[str, list[P] | Exception]]:
    """Yield the batches of the parts; an empty batch ends a part, an exception marks it as failed."""
    for part in parts:
        try:
            for batch in read(part):
                yield part, batch
            yield part, []
        except Exception as failure:  # one damaged part must not stop the others
            yield part, failure


def _pairs(work: Callable[[list[P]], Sequence[R]], batch: list[P] | Exception) -> list[tuple[P, R]] | Exception:
    """Return the items of a batch with their results, or the exception that was raised."""
    if isinstance(batch, Exception):
        return batch
    try:
        return list(zip(batch, work(batch), strict=True)) if batch else []
    except Exception as failure:
        return failure


def _write(write: Callable[[str, list[Row]], Statistics], part: str, rows: list[Future[Row]]) -> Statistics:
    return write(part, [row.result() for row in rows])


def _outcome(part: str, future: Future[Statistics]) -> tuple[str, Statistics | Exception]:
    failure = future.exception()
    assert failure is None or isinstance(failure, Exception)
    return (part, failure) if failure else (part, future.result())
