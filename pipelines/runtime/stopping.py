"""A training on Ray that is told to stop: its workers write a last checkpoint, and the driver waits for it.

The driver writes a file beside the checkpoints, which all machines reach. Every worker looks for it in a thread, and
after each step the workers agree, so that they stop after the same step. Ray is not imported.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from fss.collection import part_io
from fss.core import storage
from fss.core.exit_codes import defer_interrupts
from fss.training.workers import sum_over_workers, world_size

POLL_S = 0.5
REMOTE_POLL_S = 2.0  # a request to an object store costs money
UNSCORED = -1.0
"""Score of a checkpoint without validation, below every other score: a training only resumes from it."""


def stop_uri(storage_uri: str, name: str) -> str:
    """Return the URI of the file that tells the workers of a training to stop."""
    return storage.join(storage_uri, f"{name}.stop")


@contextmanager
def stoppable(storage_uri: str, name: str, *, seconds: float) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM in the block ask the workers of a training to stop, and interrupt it after ``seconds``.

    A second interrupt ends the block at once.

    Raises:
        KeyboardInterrupt: the training was interrupted.
    """
    uri = stop_uri(storage_uri, name)
    _delete(uri)
    done = f"[{name}] stopping after a last checkpoint, which may take {seconds:g} s; Ctrl-C stops at once"

    def request() -> None:
        print(done, file=sys.stderr, flush=True)
        storage.write_atomically(*storage.resolve(uri), b"stop\n")

    try:
        with defer_interrupts(request, seconds=seconds):
            yield
    finally:
        with suppress(OSError):
            _delete(uri)


def _delete(uri: str) -> None:
    if part_io.exists(uri):
        part_io.delete(uri)


@contextmanager
def stop_requested(uri: str, device: torch.device) -> Iterator[Callable[[], bool]]:
    """On a worker: yield a function that returns whether to stop, with the same answer on all workers.

    All workers have to call it equally often. Several workers learn in one call what any of them knew in the one
    before, so that a GPU is not waited for.
    """
    stop, ended, before = threading.Event(), threading.Event(), torch.zeros(1)

    def look() -> None:
        while not ended.wait(REMOTE_POLL_S if storage.is_remote(uri) else POLL_S):
            with suppress(OSError):
                if part_io.exists(uri):
                    stop.set()
                    return

    def agreed() -> bool:
        nonlocal before
        if world_size() == 1:
            return stop.is_set()
        known, before = before, sum_over_workers(torch.full((1,), float(stop.is_set()), device=device))
        return bool(known.item())

    threading.Thread(target=look, name="stop", daemon=True).start()
    try:
        yield agreed
    finally:
        ended.set()
