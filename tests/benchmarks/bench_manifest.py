"""CPU time and memory of the process that starts a job on collections of stub rows, from the manifest.

    python -m tests.benchmarks.bench_manifest [--rows 10000 100000 1000000] [--parts]

Each measurement runs in a process of its own. Its memory is what the process takes beyond its imports. With --parts the
work is also measured without a manifest.
"""

import argparse
import json
import pickle
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

from fss.collection import ClassIndex, Collection, ImageIndex, MaskSet
from fss.collection.acceptance import read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.collection.schema import GATES, IMAGE_SCHEMA, MASK_SCHEMA, QUALITY_SCORES, SCORES_TYPE, part_name
from fss.collection.upgrade import refresh_manifests
from fss.core import storage
from fss.episodes.config import SplitConfig
from fss.episodes.episode_plan import make_plan
from fss.saliency.report import build_report
from fss.training.few_shot.usable_rows import RowTable, scan

PART_SIZE = 64
CLASSES = 1000
EPISODES = 1000
MANIFEST = "manifest from fragments"
RULE = AcceptanceRule(quantile=0.65)


def accept(masks: MaskSet) -> None:
    """Write an acceptance, as the jobs do."""
    table = read_scores(masks, masks.collection.part_names(), [*RULE.scores, *RULE.gates])
    write_acceptance(masks, "best", table, RULE)


def find_rows(masks: MaskSet) -> RowTable:
    """Find the accepted rows to train on; one per cent is held out."""
    accepted = masks.read_acceptance("best").accepted
    return scan(masks.collection, masks, SplitConfig(), accepted=accepted, held_out=0.01)


def broadcast(masks: MaskSet) -> None:
    """Pickle and unpickle what a training worker gets, without the time to make it."""
    global start
    values = find_rows(masks), ClassIndex.build(masks), ImageIndex.build(masks.collection)
    start = time.process_time()
    pickle.loads(pickle.dumps(values, protocol=5))


def report(masks: MaskSet) -> None:
    """Build the report of the acceptance."""
    parts = masks.collection.part_names()
    # Stub masks cannot be decoded.
    with mock.patch("fss.saliency.report._centres", lambda masks, parts, table, rows: np.full((len(rows), 2), np.nan)):
        build_report(masks, parts, np.arange(0, len(parts) * PART_SIZE, 2), RULE)


def plan(masks: MaskSet, *, one_class: bool = False) -> None:
    """Index the classes and sample an episode plan."""
    index = ClassIndex.build(masks)
    if one_class:
        index = ClassIndex(index._table, {1: 0}, index._parts)
    make_plan(index, episodes=EPISODES, shots=1, seed=0)


WORK: dict[str, Callable[[MaskSet], Any]] = {
    "fingerprint": lambda masks: masks.collection.fingerprint(),
    "quarantine": lambda masks: masks.collection.quarantine(),
    "acceptance": accept,
    "report of the acceptance": report,
    "rows to train on": find_rows,
    "class index": ClassIndex.build,
    "positions of images": lambda masks: ImageIndex.build(masks.collection),
    "plan of 1,000 classes": plan,
    "plan of one class": lambda masks: plan(masks, one_class=True),
    "copy for a worker": broadcast,
}
start = 0.0


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
    global start
    masks = Collection.open(folder).mask_set("stub")
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    if name == MANIFEST:
        refresh_manifests(masks.collection)
    else:
        WORK[name](masks)
    return {
        "cpu": time.process_time() - start,
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
    }


def measure_in_process(folder: str, name: str) -> dict[str, float]:
    """Return the result of :func:`measure` of a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_manifest", "--measure", folder, name]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def main() -> None:
    """Print one row for each kind of work, with a pair of columns for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--parts", action="store_true", help="measure the work without a manifest too")
    parser.add_argument("--folder", help="folder on a disk for the collections; default: a temporary one")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    print(f"{'rows':>9} {'work':26} {'s':>7} {'MB':>6} {'us a row':>9}", flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            folder = f"{temporary}/c"
            create(folder, rows)
            work = [(MANIFEST, ""), *((name, "") for name in WORK)]
            if options.parts:
                for file in Path(folder).rglob("*.arrow"):
                    file.rename(f"{file}.kept")
                work = [*((name, " from parts") for name in WORK), (MANIFEST, " from parts")]
            for name, note in work:
                result = measure_in_process(folder, name)
                numbers = f"{result['cpu']:7.2f} {result['memory']:6.0f} {result['cpu'] / rows * 1e6:9.2f}"
                print(f"{rows:9} {name + note:26} {numbers}", flush=True)


if __name__ == "__main__":
    main()
