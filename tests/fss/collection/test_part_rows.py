"""Single rows of parts, with and without the ranges of their pictures and masks."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fss.collection import Collection, ImageReader, part_io, part_rows, value_ranges
from fss.collection.part_rows import PartRows
from fss.collection.schema import MASK_SCHEMA, mask_table
from fss.collection.upgrade import upgrade_collection
from tests.helpers.discs import fill

ROWS = 11
PART = "part-00000"


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Write a part in row groups of 4: long, short, equal and empty values, and nulls."""
    monkeypatch.setattr(part_io, "ROW_GROUP", 4)
    monkeypatch.setattr(value_ranges, "WINDOW", 100)
    rng = np.random.default_rng(0)
    masks = [rng.bytes(200_000), b"", None, b"same", b"same", None, None, b"x" * 70_000, b"x", rng.bytes(5), None]
    rows = [
        {"image_id": str(row), "mask": mask, "soft": rng.bytes(50 * row) if row % 3 else None, "classes": [{"id": row}]}
        for row, mask in enumerate(masks)
    ]
    part_io.write(str(tmp_path), PART, MASK_SCHEMA, mask_table(rows))
    return rows


def without_ranges(path: Path) -> None:
    """Write a part again as earlier versions did."""
    pq.write_table(pq.read_table(path), path, row_group_size=4, compression="NONE", use_dictionary=False)


@pytest.mark.parametrize("old", [False, True])
def test_every_value_is_read_in_any_order(tmp_path: Path, values: list[dict[str, object]], old: bool) -> None:
    if old:
        without_ranges(tmp_path / f"{PART}.parquet")
    reader = PartRows(str(tmp_path), MASK_SCHEMA, ["mask", "soft", "classes"], cached_groups=1)
    for row in np.random.default_rng(1).permutation(ROWS).tolist():
        assert reader.value(PART, row, "mask") == values[row]["mask"]
        assert reader.value(PART, row, "soft") == values[row]["soft"]
        assert reader.other(PART, row, "classes") == [{"id": row, "pixels": None}]
    with pytest.raises(IndexError):
        reader.value(PART, ROWS, "mask")


def test_a_picture_costs_its_own_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = fill(Collection.create(str(tmp_path), name="c", source="test"), parts=1, rows=200)
    reader, read = ImageReader(collection, collection.mask_set("truth")), list[int]()
    read_at = part_rows._read_at
    monkeypatch.setattr(part_rows, "_read_at", lambda stream, n, at: read.append(n) or read_at(stream, n, at))
    ids = collection.image_ids()[PART]
    sizes = [len(row["image"]) for row in collection.read_part(PART, ["image"]).to_pylist()]
    masks = [len(row["mask"]) for row in collection.mask_set("truth").read_part(PART, ["mask"]).to_pylist()]
    for row in (150, 3, 150):
        reader.read(ids[row])
    assert read == [size for row in (150, 3, 150) for size in (sizes[row], masks[row])]
    (tmp_path / f"images/{PART}.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises(ValueError, match="cannot be read"):
        ImageReader(collection).read_encoded(ids[0], PART, 0)
    with pytest.raises(ValueError, match="no part part-00009"):
        reader.read_encoded("x", "part-00009", 0)


def test_an_upgrade_adds_the_ranges(tmp_path: Path) -> None:
    collection = fill(Collection.create(str(tmp_path), name="c", source="test"), parts=2, rows=3)
    for path in tmp_path.rglob("part-*.parquet"):
        without_ranges(path)
    before = [collection.read_part(part).to_pylist() for part in collection.part_names()]
    assert upgrade_collection(collection).rewritten == 4 and upgrade_collection(collection).rewritten == 0
    assert [collection.read_part(part).to_pylist() for part in collection.part_names()] == before
    for path in tmp_path.rglob("part-*.parquet"):
        assert value_ranges.KEY.encode() in pq.read_metadata(path).metadata


def test_single_rows_of_an_object_store(s3: str) -> None:
    collection = fill(Collection.create(f"{s3}/c", name="c", source="test"), parts=1, rows=40)
    reader = ImageReader(collection, collection.mask_set("truth"))
    table = collection.read_part(PART, ["image_id", "image"])
    masks = collection.mask_set("truth").read_part(PART, ["mask"])["mask"].to_pylist()
    for row in (39, 0):
        encoded = reader.read_encoded(table["image_id"][row].as_py(), PART, row)
        assert (encoded.image, encoded.mask) == (table["image"][row].as_py(), masks[row])
        assert encoded.classes == (7, 300)
