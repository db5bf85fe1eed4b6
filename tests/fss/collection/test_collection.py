import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fss.collection import Collection, MaskSet, acceptance_file
from fss.collection.collection_file import SourcesChangedError, collection_exists
from fss.collection.deletion import delete_collection
from fss.collection.schema import IMAGE_SCHEMA, image_table, mask_table
from fss.core.config import config_hash
from fss.core.storage import list_names, resolve
from fss.images.mask_codec import mask_row
from tests.helpers.discs import fill


def test_what_was_written_is_read(collection: Collection) -> None:
    again = Collection.open(collection.uri)
    assert again.classes == {7: "cat", 300: "dog"}
    assert again.part_names() == ["part-00000", "part-00001"]
    assert again.mask_set_names() == ["truth"]
    assert again.mask_set("truth").finished_parts() == {"part-00000", "part-00001"}
    table = again.read_part("part-00001")
    assert table.schema.equals(IMAGE_SCHEMA)
    assert table.column("uri").to_pylist() == ["1/0.png", "1/1.png", "1/2.png"]
    assert again.read_part("part-00000", ["width", "image_id"]).column_names == ["width", "image_id"]
    assert again.limits == collection.limits


def test_changes_of_two_processes_are_both_kept(collection: Collection) -> None:
    other = Collection.open(collection.uri)
    collection.add_classes({1: "one"})
    other.add_classes({2: "two"})
    other.record_ingest(0, notes=["note"], ignored={})
    collection.record_format(1)
    again = Collection.open(collection.uri)
    assert {1: "one", 2: "two"}.items() <= again.classes.items()
    assert again.notes == ("note",) and again.metadata["format"] == 1 and again.metadata == collection.metadata
    sets = [MaskSet.create(each, "new", config_hash="a", provenance={}, overwrite=False) for each in (again, other)]
    assert sets[0].metadata == sets[1].metadata
    before = sets[0].metadata
    first, second = (MaskSet(again, "new", {**before, "config_hash": name}) for name in "bc")
    first.write_metadata(before)
    with pytest.raises(ValueError, match="another process has just made the mask set 'new'"):
        second.write_metadata(before)
    other.add_source({"first_part": 2}, part_size=1)
    with pytest.raises(SourcesChangedError):
        collection.add_source({"first_part": 2}, part_size=1)


def test_a_second_collection_at_the_same_place_is_refused(collection: Collection) -> None:
    with pytest.raises(ValueError, match="a collection at"):
        Collection.create(collection.uri, name="other", source="test")
    assert Collection.create(collection.uri, name="other", source="test", exist_ok=True).name == "c"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"part_size": 0}, "part_size"), ({"class_splits": {"train": [9]}}, r"class ids \[9\]")],
)
def test_bad_settings_leave_nothing_behind(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Collection.create(str(tmp_path / "c"), name="c", source="test", **settings)
    assert not collection_exists(str(tmp_path / "c"))


def test_opening_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ingest photographs into it first"):
        Collection.open(str(tmp_path))
    (tmp_path / "collection.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        Collection.open(str(tmp_path))
    (tmp_path / "collection.json").write_text('{"form')
    with pytest.raises(ValueError, match="not valid JSON"):
        Collection.open(str(tmp_path))


@pytest.mark.parametrize(
    "part", ["../part-00000", "part-1", "part-00000/../../x", "part-00000.parquet", "", "part-٠٠٠٠٠"]
)
def test_part_names_lead_nowhere_else(collection: Collection, part: str) -> None:
    with pytest.raises(ValueError, match="not a part name"):
        collection.read_part(part)
    with pytest.raises(ValueError, match="not a part name"):
        collection.write_part(part, image_table([]))


@pytest.mark.parametrize("name", ["../truth", "a/b", ".hidden", "", "Upper", "a..b", "x" * 65])
def test_mask_set_names_lead_nowhere_else(collection: Collection, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        collection.create_mask_set(name, config_hash="1", provenance={})
    with pytest.raises(ValueError, match="cannot be named"):
        collection.mask_set(name)


def test_missing_and_damaged_parts_say_so(collection: Collection) -> None:
    with pytest.raises(ValueError, match="there is no part part-00009"):
        collection.read_part("part-00009")
    with pytest.raises(ValueError, match="no columns"):
        collection.read_part("part-00000", ["colour"])
    path = Path(collection.uri, "images", "part-00000.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cannot be read"):
        collection.read_part("part-00000")


def test_first_parts_hold_the_limit(collection: Collection, tmp_path: Path) -> None:
    size = collection.read_part("part-00000").num_rows
    assert collection.first_parts() == collection.first_parts(size + 1) == ["part-00000", "part-00001"]
    assert collection.first_parts(1) == collection.first_parts(size) == ["part-00000"]
    with pytest.raises(ValueError, match="holds no images yet"):
        Collection.create(str(tmp_path / "empty"), name="empty", source="test").first_parts(1)


def test_a_mask_set_without_all_parts_names_the_missing_ones(collection: Collection) -> None:
    collection.mask_set("truth").require_parts(collection.part_names())
    masks = collection.create_mask_set("other", config_hash="1", provenance={})
    with pytest.raises(ValueError, match=r"'other' lacks 2 of 2 parts \(part-00000, ...\); run the job"):
        masks.require_parts(collection.part_names())


def test_a_part_of_another_schema_is_refused(collection: Collection) -> None:
    with pytest.raises(ValueError, match="has the columns"):
        collection.write_part("part-00002", image_table([]).drop_columns(["error"]))
    source = Path(collection.uri, "masks", "truth", "part-00000.parquet")
    Path(collection.uri, "images", "part-00000.parquet").write_bytes(source.read_bytes())
    with pytest.raises(ValueError, match="has the columns"):
        collection.read_part("part-00000")


def test_mask_rows_must_be_those_of_the_images(collection: Collection) -> None:
    masks = collection.create_mask_set("other", config_hash="1", provenance={})
    ids = collection.read_part("part-00000", ["image_id"]).column("image_id").to_pylist()
    for wrong in (ids[:-1], ids[::-1], [*ids, "more"]):
        with pytest.raises(ValueError, match="one row per image"):
            masks.write_part("part-00000", mask_table([mask_row(i, None, error="none") for i in wrong]))
    assert masks.finished_parts() == set()


def test_mask_sets_resume_under_the_same_hash_only(collection: Collection) -> None:
    assert collection.create_mask_set("truth", config_hash="0", provenance={}).provenance == {"method": "test"}
    with pytest.raises(ValueError, match="--overwrite"):
        collection.create_mask_set("truth", config_hash="1", provenance={})
    collection.mask_set("truth").write_acceptance("best", {"quantile": 0.5}, ["a"])
    again = collection.create_mask_set("truth", config_hash="1", provenance={}, overwrite=True)
    assert again.finished_parts() == set()
    with pytest.raises(ValueError, match="no acceptance 'best'"):
        again.read_acceptance("best")
    with pytest.raises(ValueError, match="it has: truth"):
        collection.mask_set("saliency")


def test_acceptance_names_its_rule_and_ids(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = collection.mask_set("truth")
    truth.write_acceptance("best", {"quantile": 0.5}, ["b", "a"])
    first = truth.read_acceptance("best")
    assert first.accepted == {"a", "b"}
    assert first.rule == {"quantile": 0.5}
    assert first.hash == config_hash(first.rule, ["a", "b"])
    monkeypatch.setattr(acceptance_file, "_HASHED", 1)
    truth.write_acceptance("best", {"quantile": 0.5}, ["b", "a"])
    assert truth.read_acceptance("best").hash == first.hash
    truth.write_acceptance("none", {}, [])
    assert truth.read_acceptance("none").hash == config_hash({}, [])
    truth.write_acceptance("best", {"quantile": 0.5}, ["a"])
    assert truth.read_acceptance("best").hash != first.hash


def test_fingerprint_is_of_contents_not_of_place(collection: Collection, tmp_path: Path) -> None:
    other = fill(Collection.create(str(tmp_path / "d"), name="d", source="elsewhere"))
    assert other.fingerprint() == collection.fingerprint()
    other.write_part("part-00002", image_table([{"image_id": "new", "uri": "u", "error": "empty: no bytes"}]))
    assert other.fingerprint() != collection.fingerprint()
    assert other.quarantine().to_pylist() == [{"image_id": "new", "uri": "u", "error": "empty: no bytes"}]


def test_deleting_takes_what_is_the_collections(collection: Collection) -> None:
    mine = Path(collection.uri, "notes.txt")
    mine.write_text("keep me")
    delete_collection(collection.uri)
    assert [path for path in Path(collection.uri).rglob("*") if path.is_file()] == [mine]


WRITER = """
import os, sys
from fss.core.storage import resolve, write_atomically
fsync = os.fsync
def slow(descriptor):
    print("writing", flush=True)
    import time; time.sleep(60)
os.fsync = slow
write_atomically(*resolve(sys.argv[1]), b"x" * 100_000)
"""


def test_a_killed_writer_leaves_no_part(collection: Collection) -> None:
    target = Path(collection.uri, "images", "part-00002.parquet")
    with subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    left = {path.name for path in target.parent.iterdir()} - {"part-00000.parquet", "part-00001.parquet"}
    assert len(left) == 1, "the kill came before the temporary file; the test shows nothing"
    assert collection.part_names() == ["part-00000", "part-00001"]
    assert collection.fingerprint()


def test_a_failed_write_keeps_the_old_file(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("no space left on the device")

    before = collection.read_part("part-00000")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        collection.write_part("part-00000", before.slice(0, 1))
    monkeypatch.undo()
    assert collection.read_part("part-00000").equals(before)
    assert list_names(*resolve(f"{collection.uri}/images")) == ["part-00000.parquet", "part-00001.parquet"]


def test_readers_never_see_half_a_part(collection: Collection) -> None:
    code = (
        "import sys; from fss.collection import Collection\n"
        "c = Collection.open(sys.argv[1]); t = c.read_part('part-00000')\n"
        "print('go', flush=True)\n"
        "while True: c.write_part('part-00000', t)"
    )
    with subprocess.Popen([sys.executable, "-c", code, collection.uri], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert collection.read_part("part-00000").num_rows == 3
        writer.kill()


def test_the_record_is_plain_json(collection: Collection) -> None:
    info = json.loads(Path(collection.uri, "collection.json").read_text())
    assert info["classes"] == [{"id": 7, "name": "cat"}, {"id": 300, "name": "dog"}]
    assert json.loads(Path(collection.uri, "metadata/truth/set.json").read_text())["config_hash"] == "0"
