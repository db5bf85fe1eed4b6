"""Sources with a class after another, and the classes that the batches of a training on them show."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fss.collection import Collection
from fss.collection.schema import mask_table
from fss.episodes.config import SplitConfig
from fss.training.few_shot.usable_rows import scan
from fss.training.lanes import EpochOrder

BATCH, LANES = 16, 8


def write_source(folder: Path, kind: str, classes: int, pictures: int) -> str:
    """Write tiny pictures: a folder per class, a tar shard per class, or a Parquet file with row groups of 100.

    The first four digits of a path in the source, or in the case of Parquet the row, tell the class.
    """
    folder.mkdir(parents=True)
    data = list(_pictures(classes, pictures))
    if kind == "parquet":
        pq.write_table(pa.table({"image": pa.array(data, pa.binary())}), folder / "all.parquet", row_group_size=100)
        return str(folder)
    for number in range(classes):
        own = data[number * pictures : (number + 1) * pictures]
        if kind == "folder":
            (folder / f"{number:04d}").mkdir()
            for picture, content in enumerate(own):
                (folder / f"{number:04d}/{picture:04d}.png").write_bytes(content)
        else:
            with tarfile.open(folder / f"{number:04d}.tar", "w") as archive:
                for picture, content in enumerate(own):
                    info = tarfile.TarInfo(f"{picture:04d}.png")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return str(folder)


def _pictures(classes: int, pictures: int) -> Iterator[bytes]:
    for number in range(classes * pictures):
        colour = ((number // pictures) % 256, number % 256, number // 256 % 256)
        sink = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(sink, "PNG")
        yield sink.getvalue()


def shown_classes(collection: Collection, pictures: int, steps: int) -> tuple[float, int]:
    """Return the mean number of classes in a batch of 16 of a training, and the number of classes in all its steps."""
    masks = collection.create_mask_set("stub", config_hash="0", provenance={})
    class_ids = {}
    for part in collection.part_names():
        table = collection.read_part(part, ["image_id", "uri"])
        class_ids[part] = [_class_id(uri, pictures) for uri in table.column("uri").to_pylist()]
        mask_rows = [
            {"image_id": name, "mask": b"0", "classes": [{"id": 1, "pixels": 100}]}
            for name in table.column("image_id").to_pylist()
        ]
        masks.write_part(part, mask_table(mask_rows))
    rows = scan(collection, masks, SplitConfig())
    order = EpochOrder(rows.train.counts, seed=0, epoch=0, lanes=LANES)
    take, batches = BATCH // LANES, []
    for step in range(steps):
        positions = [position for lane in range(LANES) for position in order.rows(lane, step * take, take)]
        batches.append({class_ids[rows.part(block)][int(rows.train[block][row])] for block, row in positions})
    return float(np.mean([len(batch) for batch in batches])), len(set().union(*batches))


def uniform_classes(classes: int, draws: int) -> float:
    """Return the mean number of classes that draws from as many pictures of each class show."""
    return float(classes * (1 - (1 - 1 / classes) ** draws))


def _class_id(uri: str, pictures: int) -> int:
    folder, _, name = uri.rpartition("/")
    if folder.endswith(".parquet"):
        return int(name) // pictures
    return int(folder.rpartition("/")[2].removesuffix(".tar"))
