"""Bytes read from parts of different sizes against the bytes of the pictures and masks that are used.

- ``units``: the units of an epoch, as the Ray loader reads them, all rows usable
- ``episodes``: an evaluation, one support per query
- ``bank``: the tasks that write the supports of a relabelling
- ``supports``: a process that reads supports at random, from the bank

``row groups`` are collections without the byte ranges of pictures, whose supports are read from the collection.

    python -m tests.benchmarks.bench_row_reads [--rows 4096]
"""

import argparse
import functools
import io
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from pyarrow import fs as pafs

from fss.collection import ClassIndex, Collection, ImageReader, MaskSet, part_io
from fss.collection.index import EncodedSample
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.collection.value_ranges import find_ranges
from fss.core import storage
from fss.episodes.config import SplitConfig
from fss.episodes.episode_plan import make_plan
from fss.evaluation.baselines import AllForeground
from fss.evaluation.evaluator import evaluate
from fss.images.mask_codec import mask_row
from fss.relabel import feature_tables, support_bank
from fss.relabel.candidates import count_rows, plan_search, write_candidates
from fss.relabel.config import RelabelConfig
from fss.relabel.supports import shot_reader
from fss.training.few_shot.remote_units import plan_units
from fss.training.few_shot.tasks import read_images, read_masks
from fss.training.few_shot.usable_rows import scan
from fss.training.lanes import Draw, EpochOrder

PART_SIZES = (64, 256, 1024)
SIDE = 120  # a PNG of noise has 43 kB, its mask 2 kB
CLASSES = 20
LANES = 16
EPISODES = 400
BANK = 1000  # supports, and reads of them


class CountingFile(io.FileIO):
    """A file that counts the bytes read from it."""

    total = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        CountingFile.total += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size) or b""
        CountingFile.total += len(data)
        return data


class CountingFileSystem:
    """The local file system, with files that count the bytes read from them."""

    def __init__(self) -> None:
        self._local = pafs.LocalFileSystem()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for random access."""
        return pa.PythonFile(CountingFile(path), "r")

    def open_output_stream(self, path: str) -> pa.NativeFile:
        """Open a file that is written."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return self._local.open_output_stream(path)


class Used:
    """Counts the bytes of the pictures and masks that readers return."""

    def __init__(self) -> None:
        self.total = 0
        self._read = ImageReader.read_encoded

    def __call__(self, reader: ImageReader, image_id: str, part: str, row: int) -> EncodedSample:
        """Read a sample."""
        sample = self._read(reader, image_id, part, row)
        self.total += len(sample.image) + len(sample.mask or b"")
        return sample


def create(folder: Path, rows: int, part_size: int) -> MaskSet:
    """Write a collection of noise with one mask set and features."""
    collection = Collection.create(
        str(folder), name="stub", source="stub", part_size=part_size, classes={c: str(c) for c in range(1, CLASSES + 1)}
    )
    masks = collection.create_mask_set("stub", config_hash="0", provenance={})
    rng = np.random.Generator(np.random.Philox(key=0))
    noise = [rng.integers(0, 256, (SIDE - 2 * step, SIDE, 3), np.uint8) for step in range(8)]
    encoded = [(support_bank.encode_canvas(rgb), (rgb[..., 0] < 100).astype(np.uint8)) for rgb in noise]
    for number in range(-(-rows // part_size)):
        images, answers, features = [], [], []
        for row in range(number * part_size, min(rows, (number + 1) * part_size)):
            picture, mask = encoded[rng.integers(len(encoded))]
            # Bytes after the end of a PNG make it another picture.
            data, uri = picture + row.to_bytes(4, "big"), f"/stub/{row:08x}.png"
            name = make_image_id(data, uri)
            images.append({"image_id": name, "uri": uri, "image": data, "height": 1, "width": 1})
            answers.append(mask_row(name, mask, [1 + row % CLASSES]))
            features.append({"image_id": name, "feature": [1.0, row / rows], "masked": True})
        collection.write_part(part_name(number), image_table(images))
        masks.write_part(part_name(number), mask_table(answers))
        feature_tables.write(masks, "features", part_name(number), features)
    return masks


def units(masks: MaskSet) -> float:
    """Return bytes read / bytes used of the units of an epoch, without the scan at its start."""
    rows = scan(masks.collection, masks, SplitConfig())
    order = EpochOrder([len(block) for block in rows.train], seed=0, epoch=0, lanes=LANES)
    positions = range(rows.counts["train"] // LANES)
    draws = {lane: [(0, Draw(0, position, lane)) for position in positions] for lane in range(LANES)}
    planned = plan_units(draws, [lambda _: order], [rows], max_rows=64)
    CountingFile.total, used = 0, 0
    for unit in planned:
        tables = read_images(masks.collection, unit.part, unit.rows)["image"], read_masks(masks, unit.part, unit.rows)
        used += sum(map(len, tables[0].to_pylist())) + sum(map(len, tables[1]["mask"].to_pylist()))
    return CountingFile.total / used


def episodes(masks: MaskSet) -> float:
    """Return bytes read / bytes used of an evaluation, without the index of its pictures."""
    plan = make_plan(ClassIndex.build(masks), episodes=EPISODES, shots=1, seed=0)
    reader = ImageReader(masks.collection, masks)
    assert plan.episodes[0].query_id in reader  # reads the ids of all parts
    CountingFile.total = 0
    used = Used()
    with mock.patch.object(ImageReader, "read_encoded", lambda *words, **named: used(*words, **named)):
        evaluate([AllForeground()], plan, reader, size=SIDE)
    return CountingFile.total / used.total


def bank_and_supports(masks: MaskSet, ranges: bool) -> tuple[float, float]:
    """Return bytes read / bytes used of writing the bank, and of reading supports at random."""
    parts, config = masks.collection.part_names(), RelabelConfig(bank=BANK)
    plan = plan_search(masks, parts, *count_rows(masks, parts, None), config)
    for table in plan.tables():
        write_candidates(masks, table, plan, None)
    names = [
        row["image_id"]
        for table in plan.tables()
        for row in feature_tables.read(masks, "candidates", table).to_pylist()
        if row["bank"]
    ]
    drawn = np.random.Generator(np.random.Philox(key=1)).choice(names, BANK)
    used = Used()
    with mock.patch.object(ImageReader, "read_encoded", lambda *words, **named: used(*words, **named)):
        CountingFile.total = 0
        for table in plan.tables():
            support_bank.write_candidate_supports(masks, table, masks, SIDE)
        bank, used.total = CountingFile.total / used.total, 0
        direct = shot_reader(masks, SIDE)
        direct(names[0])  # reads the ids of all parts
        if not ranges:
            CountingFile.total = used.total = 0
            for name in drawn:
                direct(name)
            return bank, CountingFile.total / used.total
    folder = f"{masks.metadata_uri}/supports"
    sizes = {
        row["name"]: len(row["image"]) + len(row["mask"])
        for table in part_io.list_parts(folder)
        for row in part_io.read(folder, table, support_bank.SUPPORTS, None).to_pylist()
    }
    CountingFile.total = 0
    read = support_bank.support_reader(masks, SIDE, masks.collection.limits, direct)
    for name in drawn:
        read(name)
    return bank, CountingFile.total / sum(sizes[name] for name in drawn)


def main() -> None:
    """Print one row for each part size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4096)
    rows = parser.parse_args().rows
    resolve, counting = storage.resolve, CountingFileSystem()

    def resolve_counting(uri: str) -> tuple[Any, str]:
        filesystem, path = resolve(uri)
        return (counting if isinstance(filesystem, pafs.LocalFileSystem) else filesystem), path

    print(f"{'part':>6} {'read by':>10} {'units':>8} {'episodes':>8} {'bank':>8} {'supports':>8}")
    for part_size in PART_SIZES:
        for ranges in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                find = find_ranges if ranges else lambda *words: {}
                with mock.patch.object(part_io, "find_ranges", find):
                    masks = create(Path(folder), rows, part_size)
                with mock.patch.object(storage, "resolve", functools.partial(resolve_counting)):
                    ratios = units(masks), episodes(masks), *bank_and_supports(masks, ranges)
                kind = "ranges" if ranges else "row groups"
                print(f"{part_size:6} {kind:>10}" + "".join(f" {ratio:8.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
