"""The manifest gives what the parts give, whatever state it is in."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from fss.collection import ClassIndex, Collection, part_io, segment
from fss.collection.acceptance import read_scores
from fss.collection.schema import image_table
from fss.collection.upgrade import refresh_manifests
from fss.episodes.config import SplitConfig
from fss.training.few_shot.usable_rows import scan
from tests.helpers.discs import image_row, noisy_collection

COLUMNS = ["image_id", "error"]


def contents(collection: Collection) -> list[object]:
    """Return all that is read from small columns."""
    masks = collection.mask_set("saliency")
    rows = scan(collection, masks, SplitConfig(), held_out=0.1)
    return [
        collection.image_ids(),
        collection.fingerprint(),
        collection.quarantine().to_pylist(),
        dict(ClassIndex.build(masks)),
        read_scores(masks, collection.part_names()).to_pylist(),
        [
            rows.part_names,
            rows.part_of.tolist(),
            rows.bounds.tolist(),
            rows.counts,
            rows.key,
            [each.tolist() for each in (*rows.train, *rows.held_out)],
        ],
    ]


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    monkeypatch.setattr(segment, "SEGMENT", 2)
    return noisy_collection(tmp_path / "c", 40)[0]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the parts that are read."""
    names: list[str] = []
    read = part_io.read
    monkeypatch.setattr(part_io, "read", lambda folder, part, *words: names.append(part) or read(folder, part, *words))
    return names


def delete_fragments(collection: Collection) -> None:
    for file in Path(collection.uri).rglob("*.arrow"):
        file.unlink()


def test_fragments_give_the_columns_of_parts_that_are_in_no_segment(
    collection: Collection, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fragments = sorted(Path(collection.uri).rglob("*.arrow"))
    assert len(fragments) == 10
    with_fragments = contents(collection)
    assert reads == []
    fragments[0].write_bytes(b"")
    fragments[1].write_bytes(fragments[9].read_bytes())  # of another folder
    later = Path(collection.uri, "images/part-00004.parquet")
    os.utime(later, ns=(0, fragments[4].stat().st_mtime_ns + 1))
    assert contents(collection) == with_fragments
    names = {"part-00000", "part-00001", "part-00004"}
    assert set(reads) == names
    reads.clear()
    assert refresh_manifests(collection) == 10 and set(reads) == names
    assert not list(Path(collection.uri).rglob("*.arrow"))
    assert contents(collection) == with_fragments


def test_a_part_is_complete_without_its_fragment(collection: Collection, reads: list[str]) -> None:
    folder = Path(collection.parts.fragments_uri)
    delete_fragments(collection)
    folder.rmdir()
    folder.write_text("no folder")
    table = collection.read_part("part-00002")
    collection.write_part("part-00007", table)
    reads.clear()
    folder.unlink()
    assert collection.image_ids()["part-00007"] == table["image_id"].to_pylist()
    assert "part-00007" in reads


def test_no_part_is_read_once_the_manifest_is_complete(collection: Collection, reads: list[str]) -> None:
    delete_fragments(collection)
    before = contents(collection)
    reads.clear()
    assert refresh_manifests(collection) == 10 and len(reads) == 10
    reads.clear()
    assert contents(collection) == before and reads == []
    assert refresh_manifests(collection) == 0 and reads == []
    assert len(list(Path(collection.uri, "manifest").iterdir())) == 3


def test_parts_that_changed_appeared_or_vanished_are_noticed(collection: Collection, reads: list[str]) -> None:
    refresh_manifests(collection)
    data = collection.read_part("part-00001")
    collection.write_part("part-00001", data.take(list(range(7, -1, -1))))
    collection.write_part("part-00005", image_table([image_row(b"new", "new.png", 1, 1)]))
    Path(collection.uri, "images/part-00000.parquet").unlink()
    delete_fragments(collection)
    reads.clear()
    ids = collection.image_ids()
    assert sorted(reads) == ["part-00001", "part-00005"]
    assert list(ids) == [f"part-{number:05d}" for number in range(1, 6)]
    assert ids["part-00001"] == data["image_id"].to_pylist()[::-1]
    assert collection.parts.refresh() == 2
    reads.clear()
    assert collection.image_ids() == ids and reads == []


@pytest.mark.parametrize("content", [b"", b"PAR1 no table PAR1", None])
def test_a_damaged_manifest_is_ignored_and_replaced(
    collection: Collection, reads: list[str], content: bytes | None
) -> None:
    before = contents(collection)
    refresh_manifests(collection)
    segment = Path(collection.uri, "manifest/segment-00001.parquet")
    part = Path(collection.uri, "images/part-00000.parquet")
    segment.write_bytes(part.read_bytes() if content is None else content)
    assert contents(collection) == before
    assert collection.parts.refresh() == 2


def test_the_manifest_holds_no_pictures(collection: Collection) -> None:
    refresh_manifests(collection)
    with pytest.raises(ValueError, match="no columns"):
        list(collection.parts.tables(["part-00000"], ["colour"]))
    (name, table), *_ = collection.parts.tables(["part-00000"], ["image", "image_id"])
    assert name == "part-00000" and table["image"].null_count == 0
    sizes = [path.stat().st_size for path in Path(collection.uri).rglob("segment-*")]
    assert len(sizes) == 6 and sum(sizes) < 40_000


def test_contents_are_those_of_the_files_and_not_of_their_ids(collection: Collection, tmp_path: Path) -> None:
    masks = collection.mask_set("saliency")
    before, fingerprint = masks.contents(), collection.fingerprint()
    refresh_manifests(collection)
    assert masks.contents() == before
    copy = Collection.open(shutil.copytree(collection.uri, tmp_path / "copy", copy_function=shutil.copyfile))
    assert copy.mask_set("saliency").contents() == before
    part = masks.read_part("part-00003")
    shifted = part.column("mask").to_pylist()[1:] + part.column("mask").to_pylist()[:1]
    masks.write_part(
        "part-00003", part.set_column(part.schema.get_field_index("mask"), "mask", pa.array(shifted, pa.large_binary()))
    )
    after = masks.contents()
    assert after != before and collection.fingerprint() == fingerprint
    refresh_manifests(collection)
    assert masks.contents() == after
    file = Path(masks.uri, "part-00003.parquet")
    written = file.read_bytes()
    for data in (written[:-40] + bytes(28) + written[-12:], written + b" "):  # of the same size, and of another
        file.write_bytes(data)
        assert masks.contents() not in (before, after)
    file.write_bytes(written)
    assert masks.contents() == after


def test_a_part_that_was_replaced_stays_changed_when_the_manifest_is_brought_up_to_date(collection: Collection) -> None:
    masks = collection.mask_set("saliency")
    refresh_manifests(collection)
    before, file = masks.contents(), Path(masks.uri, "part-00001.parquet")
    other = file.read_bytes().replace(b"0.0", b"0.1")
    position = other.index(b"PNG")  # a byte of a picture, which no small column shows
    file.write_bytes(other[: position + 20] + bytes([other[position + 20] ^ 1]) + other[position + 21 :])
    with suppress(ValueError):  # where the page's checksum covers a small column
        refresh_manifests(collection)
    assert masks.contents() != before


def test_contents_of_a_collection_of_an_earlier_version(collection: Collection) -> None:
    delete_fragments(collection)
    before = collection.mask_set("saliency").contents()
    refresh_manifests(collection)
    assert collection.mask_set("saliency").contents() == before
