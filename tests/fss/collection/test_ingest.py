import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fss.collection import ClassIndex, Collection, ImageReader, ingest_local, source_listing
from fss.collection.ingest import start_ingest
from fss.collection.ingest_part import ingest_part, part_pictures
from fss.collection.part_pipeline import RowSelection
from fss.collection.schema import error_reason
from fss.collection.sources import SourceConfig
from fss.collection.verify import find_problems
from fss.core.storage import join, list_names, resolve, write_atomically
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import OK, bad_files, encoded, picture

SHARED = Path(os.environ.get("FSS_SHARED_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def photos(root: Path, count: int, first: int = 0) -> str:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (root / f"{number:03d}.jpg").write_bytes(encoded("JPEG", picture((40 + number, 40))))
    return str(root)


def ingest(uri: Path | str, source: SourceConfig, **settings: Any) -> Collection:
    return ingest_local(source, str(uri), **settings)


def rows(collection: Collection) -> list[dict[str, Any]]:
    return [row for part in collection.part_names() for row in collection.read_part(part).to_pylist()]


def test_a_folder_becomes_parts(tmp_path: Path) -> None:
    source = SourceConfig(path=photos(tmp_path / "photos", 10))
    collection = ingest(tmp_path / "c", source, part_size=4)
    assert collection.name == "photos"
    assert Collection.open(str(tmp_path / "c")).metadata == collection.metadata
    assert collection.part_names() == ["part-00000", "part-00001", "part-00002"]
    assert "".join(Path(row["uri"]).name[2] for row in rows(collection)) == "0213547869"
    found = sorted(rows(collection), key=lambda row: row["uri"])
    assert [Path(row["uri"]).name for row in found] == [f"{number:03d}.jpg" for number in range(10)]
    assert [row["width"] for row in found] == list(range(40, 50))
    assert {row["format"] for row in found} == {"JPEG"}
    assert {row["error"] for row in found} == {None}
    assert found[3]["image"] == (tmp_path / "photos/003.jpg").read_bytes()
    assert collection.mask_set_names() == []


def test_the_same_photographs_give_the_same_collection(tmp_path: Path) -> None:
    first = ingest(tmp_path / "c", SourceConfig(path=photos(tmp_path / "a/photos", 6)), part_size=4)
    second = start_ingest(str(tmp_path / "d"), SourceConfig(path=photos(tmp_path / "b/photos", 6)), part_size=4)
    for part in reversed(second.parts):
        ingest_part(second.collection.uri, part)
    assert first.fingerprint() == second.collection.fingerprint()


def test_bad_files_are_quarantined_and_good_ones_complete(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photos(root, 20)
    for bad in bad_files():
        (root / bad.name).write_bytes(bad.data)
    started = start_ingest(str(tmp_path / "c"), SourceConfig(path=str(root)), part_size=16)
    statistics = [ingest_part(started.collection.uri, part) for part in started.parts]
    found = {Path(row["uri"]).name: row for row in rows(started.collection)}
    assert len(found) == 20 + len(bad_files()) == sum(row["images"] for row in statistics)
    expected = {bad.name: bad.expected for bad in bad_files() if bad.expected != OK}
    assert {name: error_reason(row["error"]) for name, row in found.items() if row["error"]} == expected
    assert started.collection.quarantine().num_rows == len(expected) == sum(row["rejected"] for row in statistics)
    reader = ImageReader(started.collection)
    for name, row in found.items():
        if name not in expected:
            assert reader.read(row["image_id"]).rgb.shape == (row["height"], row["width"], 3)
    json.dumps(statistics)


def test_faulty_photographs_of_a_part_are_quarantined_unread(tmp_path: Path) -> None:
    started = start_ingest(str(tmp_path / "c"), SourceConfig(path=photos(tmp_path / "photos", 4)), part_size=4)
    uri, (part,) = started.collection.uri, started.parts
    assert ingest_part(uri, part, selection=RowSelection(only=range(1, 3)))["images"] == 2
    assert started.finished() == set()
    statistics = ingest_part(uri, part, selection=RowSelection(faulty={2: "its process died"}))
    assert statistics["reasons"] == {"faulty": 1}
    made = rows(started.collection)
    assert [row["error"] for row in made] == [None, None, "faulty: its process died", None]
    assert [Path(row["uri"]).name for row in made] == [Path(path).name for path in part_pictures(uri, part)]


def test_an_interrupted_ingest_goes_on(tmp_path: Path) -> None:
    source = SourceConfig(path=photos(tmp_path / "photos", 10))
    started = start_ingest(str(tmp_path / "c"), source, part_size=4)
    ingest_part(started.collection.uri, "part-00001")
    written = Path(started.collection.uri, "images/part-00001.parquet").stat().st_mtime_ns
    again = start_ingest(str(tmp_path / "c"), source, part_size=4)
    assert again.finished() == {"part-00001"}
    assert [source["first_part"] for source in again.collection.metadata["sources"]] == [0]
    ingest(tmp_path / "c", source, part_size=4)
    assert Path(started.collection.uri, "images/part-00001.parquet").stat().st_mtime_ns == written
    assert len({row["image_id"] for row in rows(started.collection)}) == 10


def test_a_part_counts_when_its_masks_are_there_too(tmp_path: Path) -> None:
    source = SourceConfig(kind="sample", sample="labelled", count=6)
    collection = ingest(tmp_path / "c", source, part_size=4)
    missing = Path(collection.uri, "masks/truth/part-00001.parquet")
    missing.unlink()
    assert start_ingest(collection.uri, source, part_size=4).finished() == {"part-00000"}
    ingest(tmp_path / "c", source, part_size=4)
    assert missing.is_file()


def test_a_collection_grows_by_new_parts(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    source = SourceConfig(path=photos(root, 6, first=10))
    before = ingest(tmp_path / "c", source, part_size=4)
    ids = before.image_ids()
    photos(root, 5)  # in front of the old ones
    with pytest.raises(ValueError, match="--append"):
        start_ingest(str(tmp_path / "c"), source, part_size=4)
    grown = ingest(tmp_path / "c", source, part_size=4, append=True)
    after = grown.image_ids()
    assert {part: after[part] for part in ids} == ids
    assert [len(after[part]) for part in grown.part_names()] == [4, 2, 4, 1]
    assert start_ingest(str(tmp_path / "c"), source, part_size=4).finished() == set(grown.part_names())
    assert len(rows(grown)) == len({row["uri"] for row in rows(grown)}) == 11


@pytest.mark.parametrize("place", ["local", "store"])
def test_two_that_append_at_once_lose_nothing(
    place: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "c") if place == "local" else join(request.getfixturevalue("s3"), "c")
    source = SourceConfig(path=photos(tmp_path / "photos", 5))
    ingest(uri, source, part_size=2)
    photos(tmp_path / "photos", 2, first=5)
    write = source_listing.write

    def overtaken(collection: str, name: str, parts: Any) -> None:
        write(collection, name, parts)
        monkeypatch.setattr(source_listing, "write", write)
        photos(tmp_path / "photos", 2, first=7)
        ingest(uri, source, append=True)

    monkeypatch.setattr(source_listing, "write", overtaken)
    ingest(uri, source, append=True)
    collection = Collection.open(uri)
    assert sum(entry["items"] for entry in collection.metadata["sources"]) == 9
    assert sorted(Path(row["uri"]).name for row in rows(collection)) == [f"{number:03d}.jpg" for number in range(9)]
    assert list(find_problems(collection)) == []


def test_two_that_create_at_once_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (SourceConfig(path=photos(tmp_path / name, 3)) for name in "ab")
    write = source_listing.write

    def overtaken(collection: str, name: str, parts: Any) -> None:
        write(collection, name, parts)
        monkeypatch.setattr(source_listing, "write", write)
        ingest(tmp_path / "c", second)

    monkeypatch.setattr(source_listing, "write", overtaken)
    with pytest.raises(ValueError, match="already a collection at"):
        ingest(tmp_path / "c", first)
    collection = Collection.open(str(tmp_path / "c"))
    assert {Path(row["uri"]).parent.name for row in rows(collection)} == {"b"}


def test_another_source_is_refused_or_replaces(tmp_path: Path) -> None:
    ingest(tmp_path / "c", SourceConfig(path=photos(tmp_path / "a", 3)))
    other = SourceConfig(path=photos(tmp_path / "b", 2))
    with pytest.raises(ValueError, match="--overwrite"):
        start_ingest(str(tmp_path / "c"), other)
    with pytest.raises(ValueError, match="--append only adds new files"):
        start_ingest(str(tmp_path / "c"), other, append=True)
    replaced = ingest(tmp_path / "c", other, overwrite=True)
    assert len(rows(replaced)) == 2
    with pytest.raises(ValueError, match="other settings"):
        start_ingest(str(tmp_path / "c"), other, limits=DecodeLimits(min_side=30))
    with pytest.raises(ValueError, match="part_size must be at least 1"):
        start_ingest(str(tmp_path / "d"), other, part_size=0)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("place", ["local", "store"])
@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("a.jpg", "a.jpg, b.jpg, c.jpg, ..."),
        ("__init__.py", "__init__.py"),
        ("images/a.jpg", "images/a.jpg"),
        ("model/segmenter.json", "model"),
        (".DS_Store", None),
        ("images/part-00000.parquet", None),  # left by a deleted collection
        ("images/.a.jpg.swp", None),
    ],
)
def test_a_collection_does_not_begin_among_other_files(
    place: str, file: str, named: str | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = photos(tmp_path / "photos", 2)
    uri = str(tmp_path / "c") if place == "local" else f"{request.getfixturevalue('s3')}/c"
    files = [file] if file != "a.jpg" else ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    for each in files:
        write_atomically(*resolve(join(uri, each)), b"something")
    before = list_names(*resolve(uri))
    if named is None:
        assert len(ingest(uri, SourceConfig(path=folder)).part_names()) == 1
        return
    with pytest.raises(ValueError, match=rf"is no collection, and has other files \(.*{re.escape(named)}\)"):
        ingest(uri, SourceConfig(path=folder))
    assert list_names(*resolve(uri)) == before


def test_a_collection_does_not_begin_where_its_source_looks_for_photographs(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 2)
    (tmp_path / "link").symlink_to(folder)
    places = ((f"{folder}/runs/c", f"{folder}/"), (f"{folder}/c", str(tmp_path)), (f"{tmp_path}/link/c", folder))
    for uri, source in (*places, (f"{folder}/c", f"{tmp_path}/link")):
        with pytest.raises(ValueError, match=r"lies within the source .*; choose a place outside of it"):
            ingest(uri, SourceConfig(path=source))
    assert len(list(Path(folder).iterdir())) == 2
    for uri, source in ((f"{folder}-collection", folder), (f"{tmp_path}/c", str(tmp_path))):
        assert len(ingest(uri, SourceConfig(path=source)).part_names()) == 1


def test_limit_takes_the_first(tmp_path: Path) -> None:
    collection = ingest(tmp_path / "c", SourceConfig(path=photos(tmp_path / "a", 9)), part_size=4, limit=5)
    assert {Path(row["uri"]).name for row in rows(collection)} == {f"{number:03d}.jpg" for number in range(5)}


def test_by_reference(tmp_path: Path) -> None:
    source = SourceConfig(path=photos(tmp_path / "a", 3))
    odd = Path(os.fsdecode(os.fsencode(source.path) + b"/caf\xe9.jpg"))
    odd.write_bytes(encoded("JPEG"))
    collection = ingest(tmp_path / "c", source, keep_bytes=False)
    found = rows(collection)
    assert [row["image"] for row in found] == [None] * 4
    assert ImageReader(collection).read(found[0]["image_id"]).rgb.shape == (40, 40, 3)
    assert found[3]["error"].startswith("unreadable: a file name that is not valid Unicode")
    Path(source.path).rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"unreadable: /.*\.jpg: No such file or directory; bring it back"):
        ImageReader(collection).read(found[0]["image_id"])
    with pytest.raises(ValueError, match="must store their bytes"):
        start_ingest(str(tmp_path / "d"), SourceConfig(kind="sample"), keep_bytes=False)


def test_limits_of_the_ingest_hold_for_readers(tmp_path: Path) -> None:
    root = tmp_path / "a"
    root.mkdir()
    (root / "tiny.png").write_bytes(encoded("PNG", picture((8, 8))))
    collection = ingest(tmp_path / "c", SourceConfig(path=str(root)), limits=DecodeLimits(min_side=4))
    [row] = rows(collection)
    assert row["error"] is None
    assert ImageReader(Collection.open(collection.uri)).read(row["image_id"]).rgb.shape == (8, 8, 3)


def test_masks_that_do_not_fit_leave_the_picture_good(tmp_path: Path) -> None:
    for name in "abcde":
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "images" / f"{name}.png").write_bytes(encoded("PNG"))
        mask = Image.fromarray(np.eye(40, 48, dtype=np.uint8) * 255)
        (tmp_path / "masks" / f"{name}.png").write_bytes(encoded("PNG", mask))
    (tmp_path / "masks/b.png").write_bytes(encoded("PNG", Image.fromarray(np.zeros((40, 47), np.uint8))))
    (tmp_path / "classes.csv").write_text("id,name")
    (tmp_path / "masks/c.png").unlink()
    (tmp_path / "masks/d.png").write_bytes(b"no picture")
    (tmp_path / "images/e.png").write_bytes(b"no picture")
    collection = ingest(tmp_path / "c", SourceConfig(path=str(tmp_path), order="source"))
    assert [row["error"] is None for row in rows(collection)] == [True, True, True, True, False]
    masks = collection.mask_set("truth").read_part("part-00000").to_pylist()
    reasons = [row["error"] and error_reason(row["error"]) for row in masks]
    assert reasons == [None, "size-mismatch", "missing-mask", "unknown-format", "no-image"]
    assert Collection.open(collection.uri).ignored == {"other files": 1}
    assert [entry.row for entry in ClassIndex.build(collection.mask_set("truth"))[1]] == [0]


def test_classes_of_index_masks_get_names(tmp_path: Path) -> None:
    for folder, data in (("images", encoded("PNG")), ("masks", None)):
        (tmp_path / folder).mkdir()
        values = Image.fromarray((np.arange(40 * 48) % 5).reshape(40, 48).astype(np.uint8))
        (tmp_path / folder / "a.png").write_bytes(data or encoded("PNG", values))
    source = SourceConfig(path=str(tmp_path), masks="index", void=(4,), class_names=("ground", "tree"))
    collection = ingest(tmp_path / "c", source)
    assert Collection.open(collection.uri).classes == {0: "ground", 1: "tree", 2: "class 2", 3: "class 3"}


def test_the_sample(tmp_path: Path) -> None:
    source = SourceConfig(kind="sample", sample="labelled", count=5)
    collection = ingest(tmp_path / "c", source, part_size=2)
    assert collection.name == "sample-labelled"
    assert set(collection.class_splits) == {"base", "novel"}
    reader = ImageReader(collection, collection.mask_set("truth"))
    for class_id, entries in ClassIndex.build(collection.mask_set("truth")).items():
        for entry in entries:
            assert (reader.read_binary(entry.image_id, class_id)[1] == 1).sum() == entry.pixels
    longer = ingest(tmp_path / "c", SourceConfig(kind="sample", sample="labelled", count=7), part_size=2, append=True)
    assert len(rows(longer)) == 7


def test_an_object_store_from_end_to_end(s3: str, tmp_path: Path) -> None:
    for bad in bad_files()[:5]:
        write_atomically(*resolve(f"{s3}/raw/bad/{bad.name}"), bad.data)
    for number in range(5):
        write_atomically(*resolve(f"{s3}/raw/{number}.jpg"), encoded("JPEG", picture((40 + number, 40))))
    source = SourceConfig(path=f"{s3}/raw")
    collection = ingest(f"{s3}/collections/c", source, part_size=4)
    assert Collection.open(f"{s3}/collections/c/").metadata == collection.metadata
    assert f"{s3}/raw/0.jpg" in {row["uri"] for row in rows(collection)}
    assert collection.quarantine().num_rows == 5
    masks = collection.create_mask_set("other", config_hash="1", provenance={})
    masks.write_acceptance("best", {}, ["a"])
    assert collection.mask_set_names() == ["other"]
    assert masks.read_acceptance("best").accepted == {"a"}
    assert start_ingest(f"{s3}/collections/c", source, part_size=4).finished() == set(collection.part_names())
    local = tmp_path / "raw"
    (local / "bad").mkdir(parents=True)
    for number in range(5):
        (local / f"{number}.jpg").write_bytes(encoded("JPEG", picture((40 + number, 40))))
    for bad in bad_files()[:5]:
        (local / "bad" / bad.name).write_bytes(bad.data)
    copy = ingest(tmp_path / "c", SourceConfig(path=str(local)), part_size=4)
    assert copy.fingerprint() == collection.fingerprint()
    assert len(rows(ingest(f"{s3}/collections/c", source, part_size=8, overwrite=True))) == 10


def test_a_store_that_fails_is_no_reason_to_quarantine(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(*resolve(f"{s3}/raw/a.jpg"), encoded("JPEG"))
    write_atomically(*resolve(f"{s3}/raw/b.jpg"), encoded("JPEG"))
    started = start_ingest(f"{s3}/c", SourceConfig(path=f"{s3}/raw"))
    resolve(s3)[0].delete_file(f"{s3.removeprefix('s3://')}/raw/b.jpg")

    def fail(uri: str, limit: int | None = None) -> bytes:
        raise OSError("AWS Error NETWORK_CONNECTION during GetObject")

    with monkeypatch.context() as patched:
        patched.setattr("fss.collection.sources.reading.storage.read_bytes", fail)
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            ingest_part(started.collection.uri, "part-00000")
    assert started.finished() == set()
    assert ingest_part(started.collection.uri, "part-00000")["reasons"] == {"unreadable": 1}


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real photographs at {SHARED}; name them in FSS_SHARED_DATA")
def test_real_photographs(tmp_path: Path) -> None:
    few = SourceConfig(kind="fss1000", path=str(SHARED / "fewshot"))
    collection = ingest(tmp_path / "few", few, limit=80)
    assert collection.quarantine().num_rows == 0
    assert {key: len(ids) for key, ids in collection.class_splits.items()} == {
        "train": 56,
        "val": 8,
        "test": 20,
    }
    index = ClassIndex.build(collection.mask_set("truth"))
    assert [len(index[class_id]) for class_id in range(1, 9)] == [10] * 8
    roads = SourceConfig(path=str(SHARED / "camvid/val"), masks="index", background=None, void=(11,))
    collection = ingest(tmp_path / "roads", roads, limit=20)
    assert list(Collection.open(collection.uri).classes) == list(range(11))


def test_an_unfinished_collection_of_an_earlier_version_keeps_the_order_of_the_paths(tmp_path: Path) -> None:
    source = SourceConfig(path=photos(tmp_path / "photos", 10))
    started = start_ingest(str(tmp_path / "c"), replace(source, order="source"), part_size=4)
    ingest_part(started.collection.uri, "part-00001")
    path = tmp_path / "c/collection.json"
    metadata = json.loads(path.read_text())
    (entry,) = metadata["sources"]
    del entry["parts"], entry["part_bytes"], entry["source"]["order"]
    path.write_text(json.dumps(metadata))
    collection = ingest(tmp_path / "c", source)
    assert [Path(row["uri"]).name for row in rows(collection)] == [f"{number:03d}.jpg" for number in range(10)]
    photos(tmp_path / "photos", 30)
    grown = ingest(tmp_path / "c", source, append=True)
    assert [len(ids) for ids in grown.image_ids().values()] == [4, 4, 2, 4, 4, 4, 4, 4]
    with pytest.raises(ValueError, match="--overwrite"):
        start_ingest(str(tmp_path / "c"), replace(source, order="source"))
