"""Produce items in a background thread, ahead of their use."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield ``items`` in order from a thread that is up to ``depth`` items ahead; with depth 0 there is no thread.

    An exception in the thread is raised here, after the items before it. Closing the iterator stops the thread.
    """
    if depth < 1:
        yield from items
        return
    results: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(is_item: bool, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                results.put((is_item, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer(True, item):
                    return
            offer(False, None)
        except BaseException as error:  # raised in the consumer's thread
            offer(False, error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = results.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
