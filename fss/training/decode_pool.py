"""Decoding of the steps of a stream, in threads or in processes, in the order of the steps.

Threads cost nothing to start, and share the interpreter with the training. Processes decode without it. They start
once per stream, receive encoded bytes, and return tensors in shared memory.
"""

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, Generic, Protocol, TypeVar

import cv2
import torch

from fss.core.system import available_cores, gpu_count
from fss.episodes.episode import RawEpisodes
from fss.training.few_shot.config import StreamConfig

MOST_DECODERS = 16
"""More decoders of one worker than this are used only if the settings say so."""
CORES_FOR_PROCESSES = 4
"""Cores of a worker from which on processes are worth their start."""

Item = TypeVar("Item")
Input = TypeVar("Input", contravariant=True)
Part = TypeVar("Part")


class StepBuilder(Protocol[Input, Part]):
    """Decodes the items of a step and joins them. Processes get a pickled copy."""

    def build(self, item: Input) -> Part:
        """Decode one item; thread-safe."""

    def collate(self, items: Sequence[Input], parts: Sequence[Part]) -> RawEpisodes:
        """Join the parts of a step."""


def local_cores() -> int:
    """Return this worker's share of the machine's cores; LOCAL_WORLD_SIZE, as torchrun and Ray set it, tells it."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def decoder_count(setting: int | None) -> int:
    """Return the number of decoders: the setting, or this worker's share of the cores, at most ``MOST_DECODERS``."""
    return setting or min(local_cores(), MOST_DECODERS)


class DecodePool(Generic[Item, Part]):
    """The decoders of a stream."""

    def __init__(self, builder: StepBuilder[Item, Part], config: StreamConfig):
        """Choose the decoders; processes start with the first step.

        Args:
            builder: builds the steps.
            config: number and kind of the decoders, and whether they work ahead.
        """
        auto = gpu_count() > 0 and local_cores() >= CORES_FOR_PROCESSES
        self.count = decoder_count(config.decode_threads)
        self.in_processes = config.decoders == "processes" or (config.decoders == "auto" and auto)
        self._builder, self._ahead = builder, config.ahead > 0

    def build(self, steps: Iterable[Sequence[Item]]) -> Iterator[RawEpisodes]:
        """Yield steps, each built from a sequence of items, which are read in the caller's thread."""
        return self._build_in_processes(steps) if self.in_processes else self._build_in_threads(steps)

    def _build_in_threads(self, steps: Iterable[Sequence[Item]]) -> Iterator[RawEpisodes]:
        pool = ThreadPoolExecutor(self.count, thread_name_prefix="decode")
        pending: deque[tuple[Sequence[Item], list[Future[Part]]]] = deque()

        def first_step() -> RawEpisodes:
            items, parts = pending.popleft()
            return self._builder.collate(items, [part.result() for part in parts])

        try:
            for step in steps:
                pending.append((step, [pool.submit(self._builder.build, item) for item in step]))
                # Items of later steps are queued, so that no thread waits while a step is completed.
                if sum(len(parts) for _, parts in pending) - len(step) >= 2 * self.count * self._ahead:
                    yield first_step()
            while pending:
                yield first_step()
        finally:
            pool.shutdown(cancel_futures=True)

    def _build_in_processes(self, steps: Iterable[Sequence[Item]]) -> Iterator[RawEpisodes]:
        pending: deque[Future[RawEpisodes]] = deque()
        try:
            for step in steps:
                pending.append(self._processes.submit(_build_step, step))
                if len(pending) > self.count * self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a decoding process ended, perhaps for lack of memory or of shared memory (/dev/shm); use fewer with "
                "--decode-threads, or --decoders threads"
            ) from error
        finally:
            for future in pending:
                future.cancel()

    @functools.cached_property
    def _processes(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        # All processes are forked from one that has imported what they need. "ray" belongs to the script of a Ray
        # worker, which every process of multiprocessing imports.
        modules = [type(self._builder).__module__, *({"ray"} & sys.modules.keys())]
        context.set_forkserver_preload(modules)
        return ProcessPoolExecutor(self.count, context, initializer=_start_process, initargs=(self._builder,))


_builder: StepBuilder[Any, Any]


def _start_process(builder: StepBuilder[Any, Any]) -> None:
    """In a process: keep the builder, and end with the process that started it."""
    global _builder
    _builder = builder
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends the processes
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _build_step(items: Sequence[Any]) -> RawEpisodes:
    return _builder.collate(items, [_builder.build(item) for item in items])
