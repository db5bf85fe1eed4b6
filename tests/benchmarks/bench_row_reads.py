"""Bytes read from parts of different sizes against the bytes of the pictures and masks that are used.

The units of one epoch are read as the Ray loader reads them, and single pictures as supports are read. ``format 1`` has
one row group per part, as collections had before.

    python -m tests.benchmarks.bench_row_reads [--rows 8192]
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

from fss.collection import Collection, ImageReader, MaskSet, part_io
from fss.collection.schema import image_table, mask_table, part_name
from fss.core import storage
from fss.episodes.config import SplitConfig
from fss.training.few_shot.remote_units import plan_units
from fss.training.few_shot.tasks import read_images, read_masks
from fss.training.few_shot.usable_rows import scan
from fss.training.lanes import EpochOrder

PART_SIZES = (64, 1024)
IMAGE_BYTES, MASK_BYTES = 40_000, 3_000  # on average
LANES = 16
SINGLE = 100  # pictures read one at a time


class CountingFile(io.FileIO):
    """A file that counts the bytes read from it."""

    total = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        CountingFile.total += count
        return count

    def read(self, size: int = -1) -> bytes:
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


def create(folder: Path, rows: int, part_size: int, version: int) -> MaskSet:
    """Write a collection of random bytes with one mask set."""
    collection = Collection.create(str(folder), name="stub", source="stub", part_size=part_size)
    collection.metadata["format"] = version
    part_io.write_json(f"{folder}/collection.json", collection.metadata)
    masks = collection.create_mask_set("stub", config_hash="0", provenance={})
    rng = np.random.Generator(np.random.Philox(key=0))
    with mock.patch.object(part_io, "ROW_GROUP", part_io.ROW_GROUP if version > 1 else part_size):
        for number in range(-(-rows // part_size)):
            ids = [f"{row:016x}-{row:08x}" for row in range(number * part_size, min(rows, (number + 1) * part_size))]
            sizes = rng.uniform(0.5, 1.5, (len(ids), 2)) * (IMAGE_BYTES, MASK_BYTES)
            images = [
                {"image_id": name, "uri": f"/stub/{name}.jpg", "image": rng.bytes(int(size)), "height": 64, "width": 64}
                for name, (size, _) in zip(ids, sizes, strict=True)
            ]
            answers = [
                {"image_id": name, "mask": rng.bytes(int(size)), "classes": [{"id": 1, "pixels": 2000}]}
                for name, (_, size) in zip(ids, sizes, strict=True)
            ]
            collection.write_part(part_name(number), image_table(images))
            masks.write_part(part_name(number), mask_table(answers))
    return masks


def size_of(image: bytes, mask: bytes) -> int:
    """Return the bytes of a picture and its mask."""
    return len(image) + len(mask)


def epoch_ratio(masks: MaskSet) -> float:
    """Return bytes read / bytes used of the units of an epoch, without the scan at its start."""
    rows = scan(masks.collection, masks, SplitConfig())
    order = EpochOrder([len(block) for block in rows.train], seed=0, epoch=0, lanes=LANES)
    units = plan_units(order, rows, range(LANES), 0, rows.counts["train"] // LANES, max_rows=64)
    CountingFile.total, used = 0, 0
    for unit in units:
        images = read_images(masks.collection, unit.part, unit.rows)["image"].to_pylist()
        used += sum(map(size_of, images, read_masks(masks, unit.part, unit.rows)["mask"].to_pylist()))
    return CountingFile.total / used


def single_ratio(masks: MaskSet) -> float:
    """Return bytes read / bytes used for random pictures, one at a time."""
    reader, used = ImageReader(masks.collection, masks), 0
    rows = [(name, part, row) for part, ids in masks.collection.image_ids().items() for row, name in enumerate(ids)]
    CountingFile.total = 0
    for number in np.random.Generator(np.random.Philox(key=1)).permutation(len(rows))[:SINGLE]:
        sample = reader.read_encoded(*rows[number])
        used += size_of(sample.image, sample.mask or b"")
    return CountingFile.total / used


def main() -> None:
    """Print one row for each part size and format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8192)
    rows = parser.parse_args().rows
    resolve, counting = storage.resolve, CountingFileSystem()

    def resolve_counting(uri: str) -> tuple[Any, str]:
        filesystem, path = resolve(uri)
        return (counting if isinstance(filesystem, pafs.LocalFileSystem) else filesystem), path

    print(f"{'part':>6} {'format':>6} {'epoch':>8} {'single':>8}   bytes read / bytes used")
    for part_size in PART_SIZES:
        for version in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                masks = create(Path(folder), rows, part_size, version)
                with mock.patch.object(storage, "resolve", functools.partial(resolve_counting)):
                    print(f"{part_size:6} {version:6} {epoch_ratio(masks):8.2f} {single_ratio(masks):8.2f}")


if __name__ == "__main__":
    main()
