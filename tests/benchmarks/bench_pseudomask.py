"""Benchmarks of the pseudo-mask job: throughput against a process pool, memory by size, and acceptance.

    python -m tests.benchmarks.bench_pseudomask throughput --data FOLDER
    python -m tests.benchmarks.bench_pseudomask memory --data FOLDER --sizes 1000 10000
    python -m tests.benchmarks.bench_pseudomask accept --rows 1000000

``FOLDER`` (or FSS_SHARED_DATA/unlabelled) holds photographs. ``throughput`` alternates warm passes of the pool and of
the job's driver with default settings over the same parts, and prints the ratio of each pair. ``memory`` runs the whole
job in a process on collections that repeat the photographs under other names, and samples the resident memory of the
driver, of the workers that make masks and of all processes of the job. ``accept`` filters synthetic scores.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow as pa

from fss.collection import Collection
from fss.collection.acceptance import write_acceptance
from fss.collection.config import AcceptanceRule
from fss.collection.schema import GATES, SCORES, image_table, make_image_id, part_name
from fss.saliency import SaliencyConfig
from fss.saliency.pseudomask import pseudomask_part
from pipelines.runtime.map_parts import run_parts
from pipelines.runtime.ray_session import SINGLE_THREAD, ray_session


def photographs(data: Path, count: int, side: int | None) -> list[bytes]:
    """Return encoded photographs, resized to ``side`` pixels on the longer side unless it is None."""
    paths = sorted(data.glob("*.jpg"))[:count]
    if not paths:
        raise SystemExit(f"no *.jpg in {data}; give --data, or set FSS_SHARED_DATA to the folder above unlabelled")
    if side is None:
        return [path.read_bytes() for path in paths]
    pictures = []
    for path in paths:
        picture = cv2.imread(str(path))
        assert picture is not None, f"{path} is no picture"
        scale = side / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pictures.append(cv2.imencode(".jpg", small)[1].tobytes())
    return pictures


def collect(uri: Path, pictures: list[bytes], count: int, part_size: int) -> Collection:
    """Write a collection of ``count`` images that repeats the pictures under different names."""
    collection = Collection.create(str(uri), name="benchmark", source="benchmark", part_size=part_size)
    for number, start in enumerate(range(0, count, part_size)):
        rows = []
        for index in range(start, min(start + part_size, count)):
            data = pictures[index % len(pictures)]
            rows.append({"image_id": make_image_id(data, str(index)), "uri": str(index), "image": data})
        collection.write_part(part_name(number), image_table(rows))
    return collection


def throughput(options: argparse.Namespace, folder: Path) -> None:
    """Alternate warm passes of a process pool and of the driver."""
    os.environ.update(SINGLE_THREAD)
    collection = collect(
        folder / "c", photographs(options.data, options.images, None), options.images, options.part_size
    )
    names, passes = collection.part_names(), iter(range(1000))

    def task() -> Callable[[str], dict[str, object]]:
        name = f"pass-{next(passes)}"
        collection.create_mask_set(name, config_hash="0" * 16, provenance={})
        return partial(pseudomask_part, collection.uri, name, cfg=SaliencyConfig())

    with (
        # Ray's workers have this niceness; without it, other work on the machine would slow only them.
        get_context("spawn").Pool(options.workers, os.nice, (15,)) as pool,
        ray_session(),
        Path(os.devnull).open("w") as quiet,
    ):

        def plain() -> float:
            work = task()
            start = time.perf_counter()
            for _ in pool.imap_unordered(work, names):
                pass
            return time.perf_counter() - start

        def on_ray() -> float:
            return run_parts(names, task(), stage="bench", out=quiet).seconds

        plain(), on_ray()  # warm up: every process compiles once
        print(f"{len(names)} parts of {options.part_size} images, a pool of {options.workers} processes", flush=True)
        ratios = []
        for number in range(options.pairs):
            first, second = (plain, on_ray) if number % 2 == 0 else (on_ray, plain)
            times = {first: first(), second: second()}
            ratios.append(times[plain] / times[on_ray])
            speeds = [options.images / times[method] for method in (plain, on_ray)]
            print(f"  pool {speeds[0]:.1f} images/s, Ray {speeds[1]:.1f} images/s: {ratios[-1]:.3f}", flush=True)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"Ray / pool: median {middle:.3f} (quartiles {low:.3f}, {high:.3f}), mean {statistics.mean(ratios):.3f}")


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Measure the peak memory of the whole job at several sizes."""
    pictures = photographs(options.data, 200, options.side)
    for size in options.sizes:
        collection = collect(folder / f"c{size}", pictures, size, options.part_size)
        command = [sys.executable, "-m", "pipelines.pseudomask", "--collection", collection.uri]
        tracking = ["--tracking.uri", f"sqlite:///{folder}/mlflow.db", "--workers", str(options.workers)]
        start = time.perf_counter()
        job = subprocess.Popen([*command, *tracking], stdout=subprocess.DEVNULL)
        peaks = dict.fromkeys(("driver", "largest worker", "mask-making workers", "all processes"), 0)
        while job.poll() is None:
            for name, value in resident(job.pid).items():
                peaks[name] = max(peaks[name], value)
            time.sleep(0.25)
        if job.returncode:
            raise SystemExit(f"the job failed with {job.returncode}")
        text = ", ".join(f"{name} {value / 2**20:,.0f} MiB" for name, value in peaks.items())
        print(f"{size:,} images in {time.perf_counter() - start:.0f} s: {text}", flush=True)


def resident(pid: int) -> dict[str, int]:
    """Return the resident bytes of a job's processes."""
    driver = psutil.Process(pid)
    try:
        sizes = {process: process.memory_info().rss for process in driver.children(recursive=True)}
        names = {process: " ".join(process.cmdline()[:1]) for process in sizes}
        driver_bytes = driver.memory_info().rss
    except psutil.NoSuchProcess:
        return {}
    busy = [size for process, size in sizes.items() if names[process].startswith("ray::") and "serve" in names[process]]
    return {
        "driver": driver_bytes,
        "largest worker": max(busy, default=0),
        "mask-making workers": sum(busy),
        "all processes": driver_bytes + sum(sizes.values()),
    }


def accept(options: argparse.Namespace, folder: Path) -> None:
    """Measure time and memory of an acceptance of synthetic scores."""
    collection = Collection.create(str(folder / "c"), name="benchmark", source="benchmark")
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    rows, random = options.rows, np.random.default_rng(0)
    columns = {"image_id": [f"{n:016x}-{n % 2**32:08x}" for n in range(rows)], "error": pa.nulls(rows, pa.string())}
    columns |= {name: random.random(rows, np.float32) for name in SCORES}
    columns |= {name: pa.array(random.random(rows) < 0.98) for name in GATES}
    columns |= {name: np.zeros(rows, np.int32) for name in ("part", "row")}
    table = pa.table(columns)
    del columns
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    chosen = write_acceptance(masks, "best", table, AcceptanceRule(quantile=0.5))
    seconds = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    size = Path(masks.acceptance_uri("best")).stat().st_size
    print(f"{len(chosen):,} of {rows:,} accepted in {seconds:.1f} s, a file of {size / 1e6:.1f} MB")
    print(f"memory per image: score table {table.nbytes / rows:.0f} B, peak above it {more / rows:.0f} B")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=["throughput", "memory", "accept"])
    shared = Path(os.environ.get("FSS_SHARED_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "unlabelled")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=200, help="images per pass")
    parser.add_argument("--part-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=128, help="longer side of the images of the memory benchmark")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"throughput": throughput, "memory": memory, "accept": accept}[options.benchmark](options, Path(folder))


if __name__ == "__main__":
    main()
