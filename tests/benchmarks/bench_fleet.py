"""A job on a million stub rows, stage by stage: time, CPU and memory of the driver, beside what ``--plan`` predicts.

    python -m tests.benchmarks.bench_fleet job --rows 1000000 --part-size 1024
    python -m tests.benchmarks.bench_fleet dispatch --parts 976563
    python -m tests.benchmarks.bench_fleet windows --parts 10000

``job`` lists empty files, writes image and mask parts with pictures of 32 pixels on Ray, and does what a driver does
before and after: manifest, fingerprint, acceptance, the rows of a training, and an episode plan. Each stage is a
process of its own, whose memory is what it takes beyond its imports. ``dispatch`` hands out as many parts of no work as
a billion images have. ``windows`` hands out one part per task with 64 to 8,192 tasks in flight, as for 32 to 4,096
cores.
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pyarrow as pa

from fss.collection import ClassIndex, Collection, MaskSet
from fss.collection.config import AcceptanceRule
from fss.collection.ingest import start_ingest
from fss.collection.schema import (
    GATES,
    IMAGE_SCHEMA,
    MASK_SCHEMA,
    QUALITY_SCORES,
    SCORES_TYPE,
    make_image_id,
    part_name,
)
from fss.collection.sources import SourceConfig
from fss.collection.upgrade import refresh_manifests
from fss.episodes.config import SplitConfig
from fss.episodes.episode_plan import make_plan
from fss.images.mask_codec import encode_mask
from fss.saliency.config import Fleet
from fss.saliency.fleet_limits import CostSample, driver_seconds, mask_limits
from fss.training.few_shot.usable_rows import scan
from pipelines.masks.acceptance_report import accept_and_report
from pipelines.runtime import part_calls
from pipelines.runtime.map_parts import run_parts
from pipelines.runtime.ray_session import ray_session

CLASSES = 100
PER_FOLDER = 1000  # files
WARM_UP = 16  # parts
SIDE = 32
PICTURE = cv2.imencode(".jpg", np.full((SIDE, SIDE, 3), 99, np.uint8))[1].tobytes()
MASK = encode_mask(np.pad(np.ones((SIDE // 2, SIDE // 2), np.uint8), SIDE // 4))
WINDOWS = (64, 512, 2048, 8192)


def write_images(uri: str, part: str, rows: int) -> dict[str, int]:
    """Write a part that repeats a small picture; bytes after its end make each one another."""
    number, none = int(part.removeprefix("part-")), pa.nulls(rows, pa.string())
    uris = [f"s3://bucket/photographs/{number:08x}/{row:08x}.jpg" for row in range(rows)]
    pictures = [PICTURE + struct.pack(">II", number, row) for row in range(rows)]
    ids = [make_image_id(picture, uri) for picture, uri in zip(pictures, uris, strict=True)]
    columns = [ids, uris, pictures, [SIDE] * rows, [SIDE] * rows, ["JPEG"] * rows, none]
    Collection.open(uri).write_part(part, pa.table(columns, schema=IMAGE_SCHEMA))
    return {"images": rows}


def write_masks(uri: str, name: str, part: str) -> dict[str, int]:
    """Write a part that repeats a small mask, with random scores and classes."""
    masks = Collection.open(uri).mask_set(name)
    ids = masks.collection.read_part(part, ["image_id"]).column("image_id")
    rows, random = len(ids), np.random.default_rng(int(part.removeprefix("part-")))
    values: dict[str, Any] = {score: random.random(rows, np.float32) for score in QUALITY_SCORES}
    values |= dict.fromkeys(GATES, np.ones(rows, bool))
    scores = pa.StructArray.from_arrays(
        [pa.array(values[field.name]) if field.name in values else pa.nulls(rows, field.type) for field in SCORES_TYPE],
        fields=list(SCORES_TYPE),
    )
    classes = [[{"id": number, "pixels": SIDE * SIDE // 4}] for number in random.integers(CLASSES, size=rows).tolist()]
    columns = [ids, [MASK] * rows, classes, pa.nulls(rows, pa.large_binary()), scores, pa.nulls(rows)]
    table = pa.table(
        [column if isinstance(column, pa.ChunkedArray) else pa.array(column, field.type) for column, field in
         zip(columns, MASK_SCHEMA, strict=True)],
        schema=MASK_SCHEMA,
    )  # fmt: skip
    masks.write_part(part, table)
    return {"images": rows, "accepted": rows}


def list_files(folder: Path, options: argparse.Namespace) -> None:
    """List the files, and write the listing."""
    start_ingest(str(folder / "listed"), SourceConfig(path=str(folder / "files")), part_size=options.part_size)


def on_ray(make: Callable[[str], Mapping[str, Any]], options: argparse.Namespace) -> float:
    """Make all parts with a small function on Ray, and return the seconds, once its processes have started."""
    names = [part_name(number) for number in range(-(-options.rows // options.part_size))]
    with ray_session(num_cpus=options.cores), Path(os.devnull).open("w") as quiet:
        first = names[:WARM_UP]  # the processes start and import
        run_parts(first, make, stage="warm-up", workers=options.cores, out=quiet)
        return run_parts(names, make, stage="stub", finished=first, workers=options.cores, out=quiet).seconds


def accept(masks: MaskSet) -> None:
    """Accept masks, and report on them."""
    parts = masks.collection.part_names()
    accept_and_report(masks, parts, AcceptanceRule(quantile=0.65), name="default", seed=0, run=mock.Mock())


def plan(masks: MaskSet) -> None:
    """Index the classes, and draw a thousand episodes."""
    make_plan(ClassIndex.build(masks), episodes=1000, shots=5, seed=0)


STAGES: dict[str, Callable[[Path, argparse.Namespace], object]] = {
    "listing of files": list_files,
    "image parts (stub)": lambda folder, options: on_ray(
        partial(write_images, str(folder / "c"), rows=options.part_size), options
    ),
    "mask parts (stub)": lambda folder, options: on_ray(partial(write_masks, str(folder / "c"), "stub"), options),
    "manifest": lambda folder, options: refresh_manifests(stub(folder).collection),
    "fingerprint": lambda folder, options: stub(folder).collection.fingerprint(),
    "acceptance": lambda folder, options: accept(stub(folder)),
    "rows to train on": lambda folder, options: scan(
        stub(folder).collection, stub(folder), SplitConfig(), held_out=0.01
    ),
    "episode plan": lambda folder, options: plan(stub(folder)),
}
OF_THE_JOB = ("manifest", "fingerprint", "acceptance")
"""Stages of the pseudo-mask job in its driver."""


def stub(folder: Path) -> MaskSet:
    """Return the mask set of the stub collection."""
    return Collection.open(str(folder / "c")).mask_set("stub")


def measure(folder: Path, name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds, the CPU seconds of this process and its peak memory in MB of a stage."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), driver_cpu()
    seconds = STAGES[name](folder, options)
    return {
        "wall": seconds if isinstance(seconds, float) else time.perf_counter() - start,
        "cpu": driver_cpu() - cpu,
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
    }


def measure_in_process(folder: Path, name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the result of :func:`measure` of a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_fleet", "stage", "--stage", name, "--folder", str(folder)]
    sizes = [f"--{size}={getattr(options, size.replace('-', '_'))}" for size in ("rows", "part-size", "cores")]
    result: dict[str, float] = json.loads(subprocess.run([*command, *sizes], check=True, stdout=subprocess.PIPE).stdout)
    return result


def driver_cpu() -> float:
    """Return the seconds of CPU that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def job(options: argparse.Namespace) -> None:
    """Run all stages, and compare the mask parts and the driver's work with the plan."""
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        write_files(folder / "files", options.rows)
        collection = Collection.create(str(folder / "c"), name="stub", source="stub", part_size=options.part_size)
        collection.create_mask_set("stub", config_hash="0", provenance={})
        print(f"{options.rows:,} rows in parts of {options.part_size:,}, on {options.cores} cores")
        print(f"{'stage':20} {'seconds':>8} {'driver CPU s':>13} {'MB':>6}")
        done = {}
        for name in STAGES:
            done[name] = measure_in_process(folder, name, options)
            wall, cpu, memory = (done[name][key] for key in ("wall", "cpu", "memory"))
            print(f"{name:20} {wall:8.1f} {cpu:13.2f} {memory:6.0f}", flush=True)
        compare(done, folder, options)


def compare(done: Mapping[str, Mapping[str, float]], folder: Path, options: argparse.Namespace) -> None:
    """Print the measured time of the job beside that of the plan, which knows the seconds of a row in one process."""
    collection = Collection.open(str(folder / "c"))
    collection.create_mask_set("sample", config_hash="0", provenance={})
    parts = collection.part_names()[:8]
    write_masks(collection.uri, "sample", parts[0])  # warms up
    start = time.perf_counter()  # a stub part waits for its disk longer than for its core
    for part in parts:
        write_masks(collection.uri, "sample", part)
    row_s = (time.perf_counter() - start) / len(parts) / options.part_size
    sample = CostSample(
        images=1, image_bytes=len(PICTURE), mask_bytes=len(MASK), cpu_s={"write": row_s}, ingest_s=row_s
    )
    fleet = Fleet(images=options.rows, part_size=options.part_size, cores=options.cores)
    limits = mask_limits(sample, fleet)
    name = min(limits, key=lambda limit: limits[limit])
    timed = options.rows - WARM_UP * options.part_size
    masks_s, driver_s = timed / limits[name], driver_seconds(fleet)
    measured = sum(done[stage]["wall"] for stage in OF_THE_JOB)
    print(f"mask parts: {done['mask parts (stub)']['wall']:.1f} s, planned {masks_s:.1f} s ({name} bind)")
    print(f"driver before and after: {measured:.1f} s ({1e6 * measured / options.rows:.1f} us a row), ", end="")
    print(f"planned {driver_s:.1f} s")


def write_files(folder: Path, count: int) -> None:
    """Write empty files, a thousand in a folder."""
    for first in range(0, count, PER_FOLDER):
        inside = folder / f"{first // PER_FOLDER:06d}"
        inside.mkdir(parents=True)
        for number in range(first, min(count, first + PER_FOLDER)):
            (inside / f"{number:08d}.jpg").touch()


def do_nothing(name: str) -> dict[str, int]:
    """Make a part of no work."""
    return {"images": 1024}


def hand_out(label: str, parts: int, workers: int | None) -> None:
    """Hand out parts of no work, and print the rates and the driver's memory."""
    names = [part_name(number) for number in range(parts)]
    with Path(os.devnull).open("w") as quiet:
        run_parts(names[:64], do_nothing, stage="warm-up", out=quiet)
        start, cpu = time.perf_counter(), driver_cpu()
        run_parts(names, do_nothing, stage="dispatch", workers=workers, out=quiet)
    seconds, used = time.perf_counter() - start, driver_cpu() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{label}: {parts:,} parts in {seconds:.1f} s, {parts / seconds:,.0f} parts/s, "
        f"{1e3 * used / parts:.2f} ms of driver CPU a part, {memory:,.0f} MB",
        flush=True,
    )


def dispatch(options: argparse.Namespace) -> None:
    """Hand out the parts of a billion images."""
    with ray_session():
        hand_out("many parts per task", options.parts or 976_563, None)


def windows(options: argparse.Namespace) -> None:
    """Hand out one part per task, with several numbers of tasks in flight."""
    with ray_session(), mock.patch.object(part_calls, "MAX_NAMES", 1):
        for window in WINDOWS:
            hand_out(f"{window:,} tasks in flight", options.parts or 10_000, window)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=["job", "dispatch", "windows", "stage"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--part-size", type=int, default=1024)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--parts", type=int, help="parts of dispatch and windows")
    parser.add_argument("--folder", help="folder on a disk for the collection; default: a temporary one")
    parser.add_argument("--stage", choices=list(STAGES), help="used by job for its own processes")
    options = parser.parse_args()
    if options.benchmark == "stage":
        print(json.dumps(measure(Path(options.folder), options.stage, options)))
        return
    {"job": job, "dispatch": dispatch, "windows": windows}[options.benchmark](options)


if __name__ == "__main__":
    main()
