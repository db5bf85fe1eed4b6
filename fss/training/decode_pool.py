"""Decoding of the steps of a stream, in threads or in processes, in the order of the steps."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from fss.episodes.episode import RawEpisodes

Item = TypeVar("Item", contravariant=True)
Part = TypeVar("Part")


class StepBuilder(Protocol[Item, Part]):
    """Decodes the items of a step and joins them."""

    def build(self, item: Item) -> Part:
        """Decode one item; thread-safe."""

    def collate(self, parts: Sequence[Part]) -> RawEpisodes:
        """Join the parts of a step."""


def build_in_threads(
    steps: Iterable[Sequence[Item]], builder: StepBuilder[Item, Part], *, threads: int, ahead: bool = True
) -> Iterator[RawEpisodes]:
    """Yield steps, each built from a sequence of items.

    Args:
        steps: the items of each step; they are read in the caller's thread.
        builder: builds and joins them.
        threads: number of threads.
        ahead: begin with steps before the one before them is complete, so that no thread waits.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    pending: deque[list[Future[Part]]] = deque()
    try:
        for items in steps:
            pending.append([pool.submit(builder.build, item) for item in items])
            if sum(map(len, pending)) - len(pending[0]) >= 2 * threads * ahead:
                yield builder.collate([future.result() for future in pending.popleft()])
        while pending:
            yield builder.collate([future.result() for future in pending.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)
