"""Time, recall and memory of the neighbour search of a relabelling.

    python -m tests.benchmarks.bench_neighbours job --rows 10000 100000 1000000 [--baseline ../other-checkout]
    python -m tests.benchmarks.bench_neighbours index --bank 1000000 --queries 6400

``job`` writes the features of stub collections in parts of 64 and finds all neighbours on a local Ray, as the job does.
It shows the CPU time of the driver and its memory beyond the imports. A baseline is a checkout whose search runs in the
driver. ``index`` measures the index alone, and its recall: the share of the exact neighbours that the search returns.

Features are synthetic: points around 1,000 centres, which stand for groups of similar images.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import faiss
import numpy as np
import pyarrow as pa

from fss.collection import Collection, MaskSet
from fss.collection.schema import part_name
from fss.core import storage
from fss.relabel import feature_tables
from fss.relabel.config import RelabelConfig
from fss.relabel.neighbours import FLAT_LIMIT, Neighbours

PART = 64
COUNT = 6  # neighbours per image: two support sets of three
CENTRES = 1000
SPREAD = 0.7


def unit_vectors(count: int, dims: int, seed: int) -> np.ndarray:
    """Return unit vectors around the centres, float32 [count, dims]."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, dims), np.float32)
    random = np.random.default_rng(seed)
    points = random.standard_normal((count, dims), np.float32)
    points *= SPREAD
    points += centres[random.integers(CENTRES, size=count)]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def create(folder: str, rows: int, dims: int) -> None:
    """Write a collection without pictures and the features of its images."""
    collection = Collection.create(folder, name="stub", source="stub", part_size=PART)
    collection.create_mask_set("saliency", config_hash="0", provenance={})
    masks = collection.create_mask_set("round-1", config_hash="0", provenance={})
    with mock.patch.object(storage, "write_atomically", lambda fs, path, data: _write(path, data)):
        for number in range(-(-rows // PART)):
            values = unit_vectors(PART, dims, number + 1).astype(np.float16)
            ids = pa.array([f"{number * PART + row:016x}-{row:08x}" for row in range(PART)])
            lists = pa.ListArray.from_arrays(np.arange(PART + 1, dtype=np.int32) * dims, values.ravel())
            masked = pa.array(np.ones(PART, bool))
            table = pa.table([ids, lists, masked], schema=feature_tables.FEATURES)
            feature_tables.write_table(masks, "features", part_name(number), table)


def _write(path: str, data: pa.Buffer) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def stub_counts(name: str, *, task: Any, blocks: Any) -> dict[str, Any]:
    """Count as many images as a part holds."""
    return {"counts": [[PART] * len(blocks[name])] * 2}


def stub_rows(name: str, **words: Any) -> dict[str, int]:
    """Do nothing."""
    return {"images": PART}


STUBS = {
    "_count": stub_counts,
    "_write_candidates": stub_rows,
    "_write_neighbours": stub_rows,
    "_build": lambda task, plan: None,
}
"""Tasks that do nothing, so that only the driver is measured."""


def find_on_ray(masks: MaskSet, parts: list[str], config: RelabelConfig, *, stubs: bool = False) -> dict[str, Any]:
    """Find all neighbours in tasks, with this process as the driver."""
    from pipelines.relabeling import neighbours
    from pipelines.relabeling.neighbours import find_neighbours
    from pipelines.relabeling.task import RelabelTask
    from pipelines.runtime.config import PartFailureConfig
    from pipelines.runtime.ray_session import ray_session

    unused: dict[str, Any] = dict.fromkeys(("model", "bank", "device", "precision"))
    task = RelabelTask(
        collection=masks.collection.uri,
        mask_set="saliency",
        acceptance=None,
        output_mask_set=masks.name,
        identity="",
        image_size=0,
        earlier=(),
        config=config,
        cache_gb=0.0,
        **unused,
    )
    with ExitStack() as stack:
        stack.enter_context(ray_session())
        for name, stub in STUBS.items() if stubs else ():
            stack.enter_context(mock.patch.object(neighbours, name, stub))
        start = measure_start()
        find_neighbours(task, parts, workers=None, failures=PartFailureConfig(), stage="relabel")
        return measured(*start)


def find_in_driver(masks: MaskSet, parts: list[str], config: RelabelConfig) -> dict[str, Any]:
    """Find all neighbours in this process."""
    from fss.relabel.neighbours import find_neighbours

    start = measure_start()
    find_neighbours(masks, parts, config)
    return measured(*start)


def measure_start() -> tuple[float, float, float]:
    """Return wall-clock time, CPU time and peak memory in KiB."""
    return time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(wall: float, cpu: float, memory: float) -> dict[str, float]:
    """Return what was used since :func:`measure_start`."""
    now = measure_start()
    return {"wall": now[0] - wall, "cpu": now[1] - cpu, "memory": (now[2] - memory) / 1024}


def measure_job(checkout: str, folder: str, work: str, options: argparse.Namespace, rows: int) -> dict[str, float]:
    """Return the measurement of a search in a process of its own."""
    command = [sys.executable, __file__, work, "--folder", folder, "--bank", str(options.bank), "--rows", str(rows)]
    command += ["--stubs"] if options.stubs else []
    environment = {**os.environ, "PYTHONPATH": checkout}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=checkout).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def job(options: argparse.Namespace) -> None:
    """Print a row for each number of images and each version."""
    print(f"{'images':>9} {'search':>10} {'wall s':>8} {'driver CPU s':>13} {'driver MB':>10}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            create(f"{temporary}/c", 0 if options.stubs else rows, options.dims)
            versions = [("tasks", str(Path(__file__).parents[2]), "on-ray")]
            versions += [("driver", str(Path(options.baseline).resolve()), "in-driver")] if options.baseline else []
            for name, checkout, work in versions:
                row = measure_job(checkout, f"{temporary}/c", work, options, rows)
                print(f"{rows:9} {name:>10} {row['wall']:8.1f} {row['cpu']:13.2f} {row['memory']:10.0f}", flush=True)
                for path in Path(temporary, "c/metadata/round-1/neighbours").glob("*"):
                    path.unlink()


def index(options: argparse.Namespace) -> None:
    """Print time, memory and recall of an index."""
    faiss.omp_set_num_threads(options.threads)
    stored, queries = unit_vectors(options.bank, options.dims, 1), unit_vectors(options.queries, options.dims, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ids = [f"{row:016x}-0" for row in range(options.bank)]
    bank = Neighbours.build(ids, stored)
    build_s = time.perf_counter() - start
    names = [f"q{row:015x}-0" for row in range(options.queries)]
    start = time.perf_counter()
    neighbours = []
    for first in range(0, options.queries, PART):
        rows = slice(first, first + PART)
        neighbours += bank.search(names[rows], queries[rows], COUNT)
    search_s = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    checked = min(200, options.queries)
    exact = Neighbours.build(ids, stored, flat_limit=options.bank).search(names[:checked], queries[:checked], COUNT)
    shared = [len({n.image_id for n in a} & {n.image_id for n in b}) for a, b in zip(neighbours, exact, strict=False)]
    kind = "exact" if options.bank <= FLAT_LIMIT else "inverted lists"
    print(f"bank of {options.bank:,} images, {options.dims} dimensions, {kind}, {options.threads} threads")
    print(f"built in {build_s:.1f} s, peak memory above the features {more:,.0f} MiB")
    print(f"{search_s / options.queries * 1e3:.3f} ms per image, {options.queries / search_s:,.0f} images/s")
    print(f"recall {np.mean(shared) / COUNT:.3f} on {checked} images")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["job", "index", "on-ray", "in-driver"])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--baseline", help="checkout of a version that searches in the driver")
    parser.add_argument("--folder", help="folder on a disk for the collections; default: a temporary one")
    parser.add_argument("--stubs", action="store_true", help="tasks do nothing: only the driver is measured")
    parser.add_argument("--bank", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=6400)
    parser.add_argument("--dims", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.work in ("job", "index"):
        (job if options.work == "job" else index)(options)
        return
    masks = Collection.open(options.folder).mask_set("round-1")
    parts = [part_name(number) for number in range(-(-options.rows[0] // PART))]
    config = RelabelConfig(bank=options.bank)
    if options.work == "on-ray":
        print(json.dumps(find_on_ray(masks, parts, config, stubs=options.stubs)))
    else:
        print(json.dumps(find_in_driver(masks, parts, config)))


if __name__ == "__main__":
    main()
