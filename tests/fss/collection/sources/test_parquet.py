"""Parquet files of images as a source: which columns count, which row groups are read, and how damage is told."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fss.collection import Collection, ingest_local
from fss.collection.ingest import start_ingest
from fss.collection.ingest_part import ingest_part
from fss.collection.sources import Listing, RawItem, SourceConfig, item_reader, list_items, shards
from fss.core import storage
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import encoded
from tests.helpers.dataset_layouts import write_bytes
from tests.helpers.fuzzing import damage

LIMITS = DecodeLimits()
JPEG = encoded("JPEG", Image.new("RGB", (48, 40), (200, 30, 60)))
PNG = encoded("PNG", Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), ((5, 15), (10, 18)))))
INDEX = encoded("PNG", Image.fromarray(np.eye(40, 48, dtype=np.uint8) * 3))
NOISE = encoded("PNG", Image.fromarray(np.random.default_rng(1).integers(0, 255, (100, 100, 3), np.uint8)))
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def stored(data: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"bytes": data, "path": path}


def parquet(columns: Mapping[str, list[Any]], *, group: int = 100, features: Any = None) -> bytes:
    arrays = {}
    for name, values in columns.items():
        kind = STRUCT if any(isinstance(value, dict) for value in values) else None
        arrays[name] = pa.array(values, kind)
    table = pa.table(arrays)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group)
    return sink.getvalue()


def source(root: Path, files: Mapping[str, bytes], **settings: object) -> SourceConfig:
    for name, data in files.items():
        write_bytes(root / name, data)
    return SourceConfig(kind="parquet", path=str(root), **settings)  # type: ignore[arg-type]


def rows(config: SourceConfig, listing: Listing, limits: DecodeLimits = LIMITS) -> dict[str, RawItem]:
    read = item_reader(listing.items, config, limits)
    return {item.relative_path: read(item) for item in listing.items}


FOUND: dict[str, tuple[dict[str, list[Any]], dict[str, object], bool]] = {
    "HF image": ({"image": [stored(JPEG, "1.jpg")], "label": [1]}, {}, False),
    "bytes": ({"jpg": [JPEG], "key": ["1"]}, {}, False),
    "any name": ({"x": [JPEG]}, {}, False),
    "one dot": ({"image.jpg": [JPEG]}, {}, False),
    "HF mask": ({"image": [stored(JPEG)], "annotation": [stored(PNG)]}, {}, True),
    "label of bytes": ({"img": [JPEG], "label": [PNG]}, {}, True),
    "plainest": ({"other_image": [NOISE], "image": [JPEG], "x": [NOISE], "mask": [PNG], "seg": [NOISE]}, {}, True),
    "settings": ({"a": [JPEG], "b": [PNG], "image": [NOISE]}, {"image_column": "a", "mask_column": "b"}, True),
    "a mask as photograph": ({"mask": [JPEG], "seg": [PNG]}, {"image_column": "mask"}, True),
    "without masks": ({"image": [JPEG], "mask": [PNG]}, {"masks": "none"}, False),
}


@pytest.mark.parametrize("table", FOUND)
def test_columns_are_found_by_type_and_name(tmp_path: Path, table: str) -> None:
    columns, settings, labelled = FOUND[table]
    config = source(tmp_path, {"data/train-0.parquet": parquet(columns)}, **settings)
    listing = list_items(config)
    (item,) = listing.items
    assert (item.relative_path, item.uri) == ("data/train-0.parquet/0", f"{tmp_path}/data/train-0.parquet/0")
    raw = rows(config, listing)[item.relative_path]
    assert raw.data == JPEG and listing.labelled == labelled == (raw.label is not None)
    assert raw.label is None or int((raw.label.mask == 1).sum()) == 400


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"url": ["http://a/b.jpg"], "n": [1]},
            {},
            r"addresses of images, not images: url \(string\).*img2dataset",
        ),
        ({"text": ["x"], "n": [1]}, {}, r"no column holds encoded images.*text \(string\), n \(int64\)"),
        ({"a": [JPEG], "b": [JPEG]}, {}, "the columns a, b all fit; give --source.image-column NAME"),
        ({"seg": [PNG], "gt": [PNG], "a": [JPEG]}, {}, "the columns seg, gt all fit; give --source.mask-column NAME"),
        ({"image": [JPEG]}, {"image_column": "img"}, "image-column is 'img', which is missing; .* are image"),
        ({"image": [JPEG], "n": [1]}, {"mask_column": "n"}, "mask-column is 'n', which is of type int64"),
        ({"image": [JPEG]}, {"masks": "index"}, "masks=index needs masks, but no column is named like masks"),
        ({"image": []}, {}, "no column holds encoded images"),
    ],
)
def test_tables_without_images_are_refused(
    tmp_path: Path, columns: dict[str, list[Any]], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list_items(source(tmp_path, {"0.parquet": parquet(columns)}, **settings))


def test_settings_of_columns_are_for_parquet_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_column is for the kind parquet, but the kind is folder"):
        SourceConfig(path="a", image_column="image")
    with pytest.raises(ValueError, match="has no Parquet files; give the folder"):
        list_items(source(tmp_path, {"a.jpg": JPEG}))


def test_metadata_of_hugging_face_names_classes_and_sound(tmp_path: Path) -> None:
    features = {
        "sound": {"_type": "Audio"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
        "list": [{"_type": "Image"}],
    }
    columns = {"sound": [stored(b"RIFF")], "x": [stored(JPEG)], "label": [1]}
    listing = list_items(source(tmp_path, {"0.parquet": parquet(columns, features=features)}))
    assert len(listing.items) == 1
    assert listing.notes == (
        "the column label has one of 2 classes for a whole photograph (cat, dog); it is no mask and is left out",
    )
    for broken in (None, [], {"info": 1}, {"info": {"features": []}}):
        table = pa.table({"image": [JPEG]}, metadata={"huggingface": json.dumps(broken)})
        pq.write_table(table, tmp_path / "0.parquet")
        assert len(list_items(source(tmp_path, {})).items) == 1


def test_masks_have_the_meaning_of_the_settings(tmp_path: Path) -> None:
    files = {"0.parquet": parquet({"image": [JPEG], "mask": [INDEX]}), "classes.txt": b"road\ncar\nbus\nbike\n"}
    config = source(tmp_path, files, masks="index")
    listing = list_items(config)
    label = rows(config, listing)["0.parquet/0"].label
    assert label is not None and (label.class_ids, listing.classes[3]) == ((3,), "bike")


def test_a_row_without_a_usable_image_is_a_reason(tmp_path: Path) -> None:
    large = JPEG + bytes(2**16)
    images = [
        stored(JPEG),
        None,
        stored(None, "http://a/b.jpg"),
        stored(b""),
        stored(large),
        stored(JPEG),
        stored(JPEG),
    ]
    masks = [stored(PNG), stored(PNG), stored(PNG), stored(PNG), stored(PNG), None, stored(large)]
    config = source(tmp_path, {"0.parquet": parquet({"image": images, "mask": masks})})
    read = list(rows(config, list_items(config), DecodeLimits(max_bytes=2**15)).values())
    assert [str(raw.error).split(":")[0] for raw in read] == [
        *("None", "no-bytes", "no-bytes", "None", "too-many-bytes", "None", "None"),
    ]
    assert [str(raw.mask_error).split(":")[0] for raw in (read[0], *read[4:])] == [
        *("None", "no-image", "missing-mask", "too-many-bytes"),
    ]
    assert read[3].data == b""


def test_a_damaged_file_costs_its_own_rows(tmp_path: Path) -> None:
    table = {"image": [stored(NOISE, str(number)) for number in range(6)]}
    whole = parquet(table, group=2)
    chunk = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(1).column(0)
    broken = bytearray(whole)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    broken[start : start + 400] = bytes(400)
    files = {
        "0.parquet": whole,
        "1.parquet": bytes(broken),
        "2.parquet": whole[:-100],
        "3.parquet": parquet({"text": ["x"]}),
        "4.parquet": parquet({"photo": [JPEG]}),
        "5.parquet": b"version https://git-lfs.github.com/spec/v1\n",
        "6.parquet": b"",
    }
    config = source(tmp_path, files)
    listing = list_items(config)
    assert listing.ignored == {"damaged shards": 5}
    (warning,) = listing.warnings
    for text in (
        "2.parquet: it is no Parquet file, or its footer is damaged",
        "3.parquet: no column holds encoded images",
        "4.parquet: its columns are photo, but those of the first file are image",
        "run git lfs pull",
    ):
        assert text in warning
    errors = {path: raw.error for path, raw in rows(config, listing).items() if raw.error}
    assert sorted(errors) == ["1.parquet/2", "1.parquet/3"]
    assert all(text.startswith("corrupt: row group 1 of the file cannot be read") for text in errors.values())
    write_bytes(tmp_path / "0.parquet", parquet({"image": table["image"][:4]}))
    (tmp_path / "1.parquet").unlink()
    reasons = {path: str(raw.error).split(":")[0] for path, raw in rows(config, listing).items() if raw.error}
    assert reasons == {
        **dict.fromkeys(["0.parquet/4", "0.parquet/5"], "changed-shard"),
        **{f"1.parquet/{row}": "unreadable" for row in range(6)},
    }


def test_a_part_reads_its_row_groups_up_to_its_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [encoded("PNG", Image.new("RGB", (40, 40), (number, 0, 0))) for number in range(24)]
    config = source(tmp_path, {"0.parquet": parquet({"image": images}, group=4)})
    asked: list[list[int]] = []
    read_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda *given, **more: asked.append(more["row_groups"]) or read_batches(*given, **more),
    )
    listing = list_items(config)
    some = listing.items[13:3:-1]  # any order, over three row groups
    read = item_reader(some, config, LIMITS)
    assert [read(item).data for item in some] == images[13:3:-1]
    assert asked == [[1], [2], [3]]


def check_collection(collection: Collection, root: str) -> None:
    images = [row for part in collection.part_names() for row in collection.read_part(part).to_pylist()]
    assert {row["uri"] for row in images} == {f"{root}/{file}.parquet/{row}" for file in (0, 1) for row in range(3)}
    assert len({row["image_id"] for row in images}) == 6 and images[5]["image"] == JPEG
    truth = collection.mask_set("truth")
    assert [r["error"] for part in truth.ordered_parts() for r in truth.read_part(part).to_pylist()] == [None] * 6


def ingest_half(uri: str, config: SourceConfig) -> Collection:
    """Ingest a part, and the others in a second start."""
    started = start_ingest(uri, config, part_size=2)
    ingest_part(uri, started.parts[1])
    assert start_ingest(uri, config, part_size=2).finished() == {started.parts[1]}
    return ingest_local(config, uri, part_size=2)


def test_files_become_a_collection_that_resumes(tmp_path: Path) -> None:
    table = parquet({"image": [stored(JPEG)] * 3, "mask": [stored(PNG)] * 3})
    config = source(tmp_path / "data", {"0.parquet": table, "1.parquet": table})
    with pytest.raises(ValueError, match="of a parquet source lie within shards"):
        ingest_local(config, str(tmp_path / "c"), keep_bytes=False)
    check_collection(ingest_half(str(tmp_path / "c"), config), config.path)


def test_files_in_an_object_store(s3: str) -> None:
    table = parquet({"image": [stored(JPEG)] * 3, "mask": [stored(PNG)] * 3}, group=2)
    for number in (0, 1):
        storage.write_atomically(*storage.resolve(f"{s3}/raw/{number}.parquet"), table)
    storage.write_atomically(*storage.resolve(f"{s3}/raw/2.parquet"), table[:-9])
    collection = ingest_half(f"{s3}/c", SourceConfig(kind="parquet", path=f"{s3}/raw"))
    check_collection(collection, f"{s3}/raw")
    assert collection.ignored == {"damaged shards": 1}


def test_an_object_store_that_fails_is_no_damage(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_atomically(*storage.resolve(f"{s3}/raw/0.parquet"), parquet({"image": [JPEG]}))
    config = SourceConfig(kind="parquet", path=f"{s3}/raw")
    listing = list_items(config)

    def fail(*_: object, **__: object) -> None:
        raise OSError("AWS Error UNKNOWN (HTTP status 418) during GetObject operation")

    monkeypatch.setattr(shards.Shard, "read_at", fail)
    with pytest.raises(OSError, match="HTTP status 418"):
        list_items(config)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fail)
    with pytest.raises(OSError, match="HTTP status 418"):
        item_reader(listing.items, config, LIMITS)


def test_damaged_bytes_are_photographs_or_reasons(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    tables = [
        parquet({"image": [stored(JPEG, "a")] * 5, "mask": [stored(PNG)] * 5}, group=2),
        parquet({"image": [JPEG] * 3, "mask": [PNG] * 3}, features={"image": {"_type": "Image"}}),
    ]
    files = {f"{number:03d}.parquet": damage(tables[number % 2], rng) for number in range(300)}
    config = source(tmp_path, {"good.parquet": tables[0], **files})
    listing = list_items(config)
    read = rows(config, listing)
    assert read["good.parquet/4"].label is not None and len(read) > 100
    for raw in read.values():
        assert (raw.data is None) == (raw.error is not None) and (raw.label is None) == (raw.mask_error is not None)
