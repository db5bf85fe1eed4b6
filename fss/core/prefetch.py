"""Produce items in a background thread, ahead of their use, and in batches."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items in order; the last one may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield ``items`` in order while a thread computes the next ``depth`` of them; with depth 0 there is no thread.

    An exception in the thread is raised here, after the items before it. Closing the iterator stops the thread.
    """
    if depth < 1:
        yield from items
        return
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(next, iterator, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]  # only the sentinel is not a T
    finally:
        pool.shutdown(cancel_futures=True)
