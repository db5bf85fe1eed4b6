"""Benchmarks of the training's input: images and episodes a second, and the cores that a GPU needs.

    python -m tests.benchmarks.bench_loader loaders --collection C --mask-set truth --size 256
    python -m tests.benchmarks.bench_loader episodes --collection C --mask-set truth --size 400

``loaders`` reads MaskSplit tasks with the worker's own loader (threads, processes, decoded and cached), with Ray Data
(``--ray``) and with a torch DataLoader that makes the same tasks, in turn and in changing order. It prints images per
second, images per CPU second of all processes, and the median ratio to the DataLoader of the same pass. Opening a
stream and starting processes are not measured. A cold pass decodes every photograph and writes it to the cache.

``episodes`` reads class episodes with one thread. It prints episodes per CPU second, cold and cached, and the cores
that a GPU needs for each learner. The episodes that a GPU trains per second are computed, not measured: from the cost
of a training sample in README.md's "Speed of the networks", and from ``--tflops``. ``--decoding fast`` measures fast
decoding.
"""

import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import psutil
import pyarrow as pa
import torch
import tyro
from torch.utils.data import DataLoader, Dataset

from fss.collection import ClassIndex, Collection, ImageReader
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode_plan import split_small_classes
from fss.images.limits import DecodeLimits, Decoding
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.tasks import (
    Task,
    TaskSettings,
    collate,
    make_task,
    read_canvas,
    read_images,
    read_masks,
    table_row,
)

RESNET50_GFLOP = 8.2
"""Floating-point operations of ResNet-50's forward pass on one image of 224 px."""
SAMPLE_COST = {"hsnet": (8.4, 400), "asnet": (6.6, 400), "vat": (39.6, 473), "masksplit": (19.0, 400)}
"""Cost of a training sample in forward passes of ResNet-50 on an image of the same size, and that size in pixels."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training data."""

    collection: str
    """URI of the collection."""
    mask_set: str = "saliency"
    """Name of the mask set."""
    size: int = 400
    """Side of the canvases in pixels."""
    batch: int = 16
    """Episodes per step."""
    decoding: Decoding = "exact"
    """How photographs are decoded."""

    def config(self, folder: Path, **settings: Any) -> StreamConfig:
        """Return the settings of a stream that caches in a folder."""
        return StreamConfig(batch_size=self.batch, cache_folder=folder, decoding=self.decoding, **settings)


@dataclass(frozen=True, kw_only=True)
class Loaders(Data):
    """Options of ``loaders``."""

    decoders: int = 2
    """Threads or processes of each loader."""
    passes: int = 5
    """Measured passes of each loader."""
    steps: int | None = None
    """Steps of a pass. None: all photographs once."""
    ray: bool = False
    """Measure Ray Data too."""


@dataclass(frozen=True, kw_only=True)
class Episodes(Data):
    """Options of ``episodes``."""

    shots: int = 1
    """Supports per episode."""
    episodes: int = 600
    """Episodes of a pass."""
    passes: int = 3
    """Measured passes, each with a cache of its own."""
    tflops: float = 75.0
    """Operations that the GPU is assumed to do in training, in 1e12 a second; 75 is ResNet-50 at 3,000 images/s."""


class PlainTasks(Dataset[Task]):
    """Tasks in the order of their parts, as a dataset for a DataLoader."""

    def __init__(self, stream: MaskSplitStream, decoding: Decoding, count: int):
        rows = stream.rows
        self.positions = [
            (rows.part(block), rows.block(block), int(row)) for block, train in enumerate(rows.train) for row in train
        ][:count]
        self.settings = TaskSettings(
            size=stream.image_size, split=stream.split, augment=stream.augment, seed=0, epoch=0, decoding=decoding
        )
        self.uri, self.mask_set = stream.mask_set.collection.uri, stream.mask_set.name

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> Task:
        part, block, row = self.positions[number]
        limits, images, masks = tables(self.uri, self.mask_set, part, block)
        mask_row = table_row(masks, row - block.start)
        canvas = read_canvas(table_row(images, row - block.start), mask_row["image_id"], self.settings, limits)
        return make_task(mask_row, canvas, self.settings)


@functools.lru_cache(4)
def tables(uri: str, mask_set: str, part: str, block: range) -> tuple[DecodeLimits, pa.Table, pa.Table]:
    """Read a block once for all of its rows."""
    collection = Collection.open(uri)
    return (
        collection.limits,
        read_images(collection, part, block),
        read_masks(collection.mask_set(mask_set), part, block),
    )


def single_thread(_: int) -> None:
    """Let a process of the DataLoader compute with one thread, as those of the worker's loader do."""
    cv2.setNumThreads(1)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all that it has started, which still run."""
    own = psutil.Process()
    seconds = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds += times.user + times.system
    return seconds


@dataclass(frozen=True)
class Pass:
    """A measured pass over the data."""

    count: int
    wall: float
    cpu: float


def measure(batches: Iterator[Any], steps: int, count: int) -> Pass:
    """Take some steps and return their number of images or episodes, with the time."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    for _ in range(steps):
        next(batches)
    return Pass(count, time.perf_counter() - wall, cpu_seconds() - cpu)


def measure_loaders(options: tyro.conf.OmitArgPrefixes[Loaders]) -> None:
    """Measure the images per second of every loader."""
    from pipelines.runtime.ray_session import SINGLE_THREAD, ray_session
    from pipelines.training.ray_stream import RayMaskSplitStream

    os.environ.update(SINGLE_THREAD)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    collection = Collection.open(options.collection)
    masks = collection.mask_set(options.mask_set)

    def split_stream(kind: type[MaskSplitStream], folder: str, **settings: Any) -> MaskSplitStream:
        config = options.config(Path(folder), decode_threads=options.decoders, **settings)
        stream = kind(
            collection, masks, image_size=options.size, stream=config, split=SplitConfig(), augment=AugmentConfig()
        )
        list(stream.held_out())  # starts the processes
        return stream

    with tempfile.TemporaryDirectory() as folder:
        first = split_stream(MaskSplitStream, folder, decoders="threads")
        steps = min(first.steps_per_epoch, options.steps or first.steps_per_epoch)
        count = steps * options.batch
        plain = DataLoader(
            PlainTasks(first, options.decoding, count),
            options.batch,
            num_workers=options.decoders,
            collate_fn=functools.partial(collate, group=2),
            persistent_workers=True,
            multiprocessing_context="forkserver",
            worker_init_fn=single_thread,
        )
        list(plain)  # starts the processes

        def own(decoders: str, *, cached: bool) -> Pass:
            with tempfile.TemporaryDirectory() as cache:
                stream = split_stream(MaskSplitStream, cache, decoders=decoders)
                if cached:
                    measure(stream.batches(1), steps, count)
                return measure(stream.batches(1), steps, count)

        loaders: dict[str, Callable[[], Pass]] = {
            "DataLoader": lambda: measure(iter(plain), steps, count),
            "worker, threads, cold": lambda: own("threads", cached=False),
            "worker, processes, cold": lambda: own("processes", cached=False),
            "worker, threads, cached": lambda: own("threads", cached=True),
            "worker, processes, cached": lambda: own("processes", cached=True),
        }
        if options.ray:
            streamed = split_stream(RayMaskSplitStream, folder)
            loaders["Ray Data"] = lambda: measure(streamed.batches(0), steps, count)
        passes: dict[str, list[Pass]] = {name: [] for name in loaders}
        with ray_session() if options.ray else nullcontext():
            for number in range(options.passes):
                for name in list(loaders)[:: -1 if number % 2 else 1]:
                    passes[name].append(loaders[name]())
                    print(f"{name}: {passes[name][-1]}", file=sys.stderr, flush=True)
    print_loaders(passes)


def print_loaders(passes: dict[str, list[Pass]]) -> None:
    """Print the table of ``loaders``."""
    print("| loader | images/s | to the DataLoader | images per CPU second |\n|---|---|---|---|")
    for name, own in passes.items():
        rate = statistics.median(each.count / each.wall for each in own)
        ratio = statistics.median(base.wall / each.wall for base, each in zip(passes["DataLoader"], own, strict=True))
        cpu = statistics.median(each.count / each.cpu for each in own)
        print(f"| {name} | {rate:.0f} | {ratio:.2f} | {'' if name == 'Ray Data' else f'{cpu:.0f}'} |", flush=True)


def measure_episodes(options: tyro.conf.OmitArgPrefixes[Episodes]) -> None:
    """Measure class episodes per CPU second, and compute the cores that a GPU needs."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    collection = Collection.open(options.collection)
    masks = collection.mask_set(options.mask_set)
    index = ClassIndex.build(masks)
    classes, _ = split_small_classes(index, index, options.shots)
    rates: dict[str, list[float]] = {"cold": [], "cached": []}
    for _ in range(options.passes):
        with tempfile.TemporaryDirectory() as folder:
            stream = ClassStream(
                ImageReader(collection, masks),
                index,
                classes=classes,
                episodes=options.episodes,
                shots=options.shots,
                image_size=options.size,
                stream=replace(options.config(Path(folder)), decode_threads=1, decoders="threads"),
                augment=AugmentConfig(),
            )
            steps = stream.steps_per_epoch
            for temperature, values in rates.items():
                result = measure(stream.batches(0), steps, steps * options.batch)
                values.append(result.count / result.cpu)
                print(f"{temperature}: {values[-1]:.0f} episodes per CPU second", flush=True)
    cold, cached = (statistics.median(values) for values in rates.values())
    print(
        f"\n{options.shots} shot(s), {options.size} px: {cold:.0f} episodes per CPU second cold, {cached:.0f} cached\n"
    )
    print(f"Computed for a GPU that does {options.tflops:g} TFLOP/s in training, not run:\n")
    print("| learner | episodes/s of a GPU | cores, cold | cores, cached |\n|---|---|---|---|")
    for learner, (cost, side) in SAMPLE_COST.items():
        episodes = options.tflops * 1e3 / (cost * RESNET50_GFLOP * (side / 224) ** 2)
        print(f"| {learner}, {side} px | {episodes:.0f} | {episodes / cold:.1f} | {episodes / cached:.1f} |")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"loaders": measure_loaders, "episodes": measure_episodes})
