"""Parts for an estimator on a GPU: pictures are decoded ahead of it, and masks encoded and written behind it.

One process per GPU takes several part names at a time. A thread reads and decodes the next batches while the network
works on one, and other threads encode and write the ones before, so that the GPU waits for neither.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from fss.collection import Collection, MaskSet
from fss.collection.schema import mask_table
from fss.saliency.backends import Estimator, EstimatorSettings
from fss.saliency.estimator import SaliencyResult
from fss.saliency.job import COLUMNS, Picture, decode, kept_estimator, reason, row_of, statistics

BATCH = 32  # pictures in a pass of the network: full-size pictures wait in memory, AHEAD + 1 batches of them
AHEAD = 2  # batches decoded in advance
ENCODERS = 4  # threads that encode masks

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
Row = dict[str, Any]
Statistics = dict[str, object]


@runtime_checkable
class BatchEstimator(Protocol):
    """An estimator that takes several pictures in one pass."""

    def estimate_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[SaliencyResult]:
        """Find the salient objects of uint8 RGB [H,W,3] pictures."""


def pseudomask_parts(
    parts: Sequence[str], *, collection_uri: str, set_name: str, cfg: EstimatorSettings, device: str
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Make several mask parts one after the other; the same rows as ``job.pseudomask_part`` makes.

    Args:
        parts: names of image parts.
        collection_uri: of the collection.
        set_name: a mask set that exists already.
        cfg: settings of the estimator.
        device: where its network runs.

    Yields:
        Each part with its statistics once it is written, or with what went wrong; the other parts go on.
    """
    cv2.setNumThreads(1)
    collection = Collection.open(collection_uri)
    masks = collection.mask_set(set_name)
    estimator = kept_estimator(cfg, device, masks.config_hash)
    return staged_parts(
        parts,
        read=partial(_batches, collection),
        work=partial(estimate_all, estimator),
        encode=row_of,
        write=partial(write_masks, masks),
    )


def staged_parts(
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
        for part, batch in ahead(_guarded(parts, read)):
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


def write_masks(masks: MaskSet, part: str, rows: list[Row]) -> Statistics:
    """Write a mask part and return its statistics."""
    masks.write_part(part, mask_table(rows))
    return statistics(part, rows)


def ahead(items: Iterator[T], depth: int = AHEAD) -> Iterator[T]:
    """Iterate, with the next ``depth`` items made in a thread while the caller is busy."""
    with ThreadPoolExecutor(1) as pool:
        end = object()
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]  # the end is the only object that is no T


def _batches(collection: Collection, part: str) -> Iterator[list[Picture]]:
    """The decoded pictures of a part, batch by batch."""
    records = collection.read_part(part, COLUMNS).to_pylist()
    for start in range(0, len(records), BATCH):
        yield [decode(record, collection.limits) for record in records[start : start + BATCH]]


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


def estimate_all(estimator: Estimator, pictures: Sequence[Picture]) -> list[SaliencyResult | str]:
    """Results of the pictures, or why there is none, in passes of :data:`BATCH` where the estimator can."""
    good = [picture for picture in pictures if picture.rgb is not None]
    batches = [good[start : start + BATCH] for start in range(0, len(good), BATCH)]
    results = [result for batch in batches for result in _estimate(estimator, batch)]
    found = dict(zip((id(picture) for picture in good), results, strict=True))
    return [found.get(id(picture), str(picture.error)) for picture in pictures]


def _estimate(estimator: Estimator, pictures: Sequence[Picture]) -> list[SaliencyResult | str]:
    if isinstance(estimator, BatchEstimator) and len(pictures) > 1:
        try:
            return list(estimator.estimate_batch([_rgb(picture) for picture in pictures]))
        except Exception:  # one of them is strange: find out which
            return [result for picture in pictures for result in _estimate(estimator, [picture])]
    results: list[SaliencyResult | str] = []
    for picture in pictures:
        try:
            results.append(estimator.estimate(_rgb(picture), image_id=picture.image_id))
        except Exception as failure:
            results.append(reason(failure))
    return results


def _rgb(picture: Picture) -> npt.NDArray[np.uint8]:
    assert picture.rgb is not None, "only decoded pictures are estimated"
    return picture.rgb


def _write(write: Callable[[str, list[Row]], Statistics], part: str, rows: list[Future[Row]]) -> Statistics:
    return write(part, [row.result() for row in rows])


def _outcome(part: str, written: Future[Statistics]) -> tuple[str, Statistics | Exception]:
    failure = written.exception()
    assert failure is None or isinstance(failure, Exception)
    return (part, failure) if failure else (part, written.result())
