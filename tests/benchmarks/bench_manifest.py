"""CPU time and memory of the process that starts a job, with and without a manifest, on collections of stub rows.

    python -m tests.benchmarks.bench_manifest [--rows 100000 1000000]

Each measurement runs in a process of its own. Its memory is what the process takes beyond its imports.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from fss.collection import ClassIndex, Collection, MaskSet
from fss.collection.acceptance import read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.collection.schema import GATES, IMAGE_SCHEMA, MASK_SCHEMA, QUALITY_SCORES, SCORES_TYPE, part_name
from fss.collection.upgrade import refresh_manifests
from fss.core import storage
from fss.episodes.config import SplitConfig
from fss.training.few_shot.usable_rows import scan

PART_SIZE = 64
CLASSES = 1000
MANIFEST = "refresh the manifests"

WORK: dict[str, Callable[[MaskSet], Any]] = {
    "fingerprint": lambda masks: masks.collection.fingerprint(),
    "quarantine": lambda masks: masks.collection.quarantine(),
    "scan": lambda masks: scan(masks.collection, masks, SplitConfig(), held_out=0.01),
    "class index": ClassIndex.build,
    "acceptance": lambda masks: write_acceptance(
        masks, "best", read_scores(masks, masks.collection.part_names()), AcceptanceRule(quantile=0.65)
    ),
    MANIFEST: lambda masks: refresh_manifests(masks.collection),
}


def create(folder: str, rows: int) -> None:
    """Write the parts of a collection and of one mask set; a picture and a mask are 10 bytes."""
    collection = Collection.create(folder, name="stub", source="stub", part_size=PART_SIZE)
    masks = collection.create_mask_set("stub", config_hash="0", provenance={})
    rng = np.random.Generator(np.random.Philox(key=0))
    data = pa.array([b"0123456789"] * PART_SIZE, pa.large_binary())
    sides, kinds = pa.array([400] * PART_SIZE, pa.int32()), pa.array(["JPEG"] * PART_SIZE)
    none = pa.nulls(PART_SIZE, pa.string())
    with mock.patch.object(storage, "write_atomically", lambda fs, path, data: _write(path, data)):
        for number in range(-(-rows // PART_SIZE)):
            values = rng.random((len(QUALITY_SCORES), PART_SIZE), np.float32)
            classes = rng.integers(CLASSES, size=PART_SIZE)
            ids = pa.array([f"{number:08x}{row:08x}-{row:08x}" for row in range(PART_SIZE)])
            uris = pa.array([f"s3://bucket/photographs/{number:08x}/{row:08x}.jpg" for row in range(PART_SIZE)])
            images = pa.table([ids, uris, data, sides, sides, kinds, none], schema=IMAGE_SCHEMA)
            scores = dict(zip(QUALITY_SCORES, values, strict=True)) | dict.fromkeys(GATES, np.ones(PART_SIZE, bool))
            struct = pa.StructArray.from_arrays(
                [pa.array(scores[f.name]) if f.name in scores else pa.nulls(PART_SIZE, f.type) for f in SCORES_TYPE],
                fields=list(SCORES_TYPE),
            )
            lists = pa.array(
                [[{"id": c, "pixels": 20_000}] for c in classes.tolist()], MASK_SCHEMA.field("classes").type
            )
            soft = pa.nulls(PART_SIZE, pa.large_binary())
            collection.write_part(part_name(number), images)
            with mock.patch.object(Collection, "read_part", lambda *words, images=images: images):
                masks.write_part(
                    part_name(number), pa.table([ids, data, lists, soft, struct, none], schema=MASK_SCHEMA)
                )


def _write(path: str, data: pa.Buffer) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def measure(folder: str, name: str) -> dict[str, float]:
    """Return CPU seconds and peak memory in MB of one kind of work."""
    masks = Collection.open(folder).mask_set("stub")
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    WORK[name](masks)
    return {
        "cpu": time.process_time() - start,
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
    }


def measure_in_process(folder: str, name: str) -> dict[str, float]:
    """Return the result of :func:`measure` of a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_manifest", "--measure", folder, name]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def main() -> None:
    """Print one row for each kind of work and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", help="folder on a disk for the collections; default: a temporary one")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    print(f"{'rows':>9} {'work':22} {'parts: s':>9} {'MB':>7} {'manifest: s':>12} {'MB':>7} {'ratio':>6}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            folder = f"{temporary}/c"
            create(folder, rows)
            names = [name for name in WORK if name != MANIFEST]
            before = {name: measure_in_process(folder, name) for name in names}
            written = measure_in_process(folder, MANIFEST)
            print(f"{rows:9} {MANIFEST:22} {written['cpu']:9.2f} {written['memory']:7.0f}", flush=True)
            for name in names:
                old, new = before[name], measure_in_process(folder, name)
                seconds = f"{old['cpu']:9.2f} {old['memory']:7.0f} {new['cpu']:12.2f} {new['memory']:7.0f}"
                print(f"{rows:9} {name:22} {seconds} {old['cpu'] / new['cpu']:6.1f}", flush=True)


if __name__ == "__main__":
    main()
