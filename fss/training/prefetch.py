"""Make the next items in a background thread while the present one is used."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield ``items`` in order, made by a thread that is up to ``depth`` items ahead.

    An exception of the thread is raised here, in its place. Closing or dropping the iterator stops the thread.
    """
    if depth < 1:
        yield from items
        return
    results: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(made: bool, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                results.put((made, value), timeout=0.1)
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
        except BaseException as error:  # handed over, whatever it is
            offer(False, error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            made, value = results.get()
            if made:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
