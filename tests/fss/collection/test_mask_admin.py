"""Mask sets renamed and deleted, on a disk and on an object store."""

from pathlib import Path

import pytest

from fss.collection import Collection
from fss.collection.mask_admin import delete_mask_set, rename_mask_set
from fss.collection.mask_set_files import list_files
from fss.core import storage
from tests.helpers.discs import fill


@pytest.fixture(params=["disk", "object store"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Collection:
    place = str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3")
    collection = fill(Collection.create(f"{place}/c", name="c", source="test", classes={7: "cat", 300: "dog"}))
    masks = collection.create_mask_set("first", config_hash="1" * 16, provenance={"method": "test"})
    for part in collection.part_names():
        masks.write_part(part, collection.mask_set("truth").read_part(part))
    masks.write_acceptance("default", {}, collection.image_ids()["part-00000"])
    return collection


def names(collection: Collection) -> list[str]:
    return list_files(collection.uri)


def test_a_renamed_set_is_the_same_set(filled: Collection) -> None:
    old = filled.mask_set("first")
    before = [old.read_part(part) for part in sorted(old.finished_parts())]
    renamed = rename_mask_set(old, "second")
    assert filled.mask_set_names() == ["second", "truth"]
    opened = filled.mask_set("second")
    assert opened.metadata == renamed.metadata == {**old.metadata, "name": "second"}
    assert [opened.read_part(part) for part in sorted(opened.finished_parts())] == before
    assert opened.read_acceptance("default").accepted
    assert not [path for path in names(filled) if "first" in path]


def test_a_deleted_set_leaves_nothing(filled: Collection) -> None:
    assert delete_mask_set(filled.mask_set("first")) == 6, "2 parts, 2 fragments, set.json and an acceptance"
    assert filled.mask_set_names() == ["truth"]
    assert not [path for path in names(filled) if "first" in path]
    filled.create_mask_set("first", config_hash="2" * 16, provenance={})


def test_what_is_taken_belongs_to_the_source_or_is_no_name_is_refused(filled: Collection) -> None:
    filled.create_mask_set("other", config_hash="0", provenance={})
    first = filled.mask_set("first")
    with pytest.raises(ValueError, match="has a mask set 'other' already"):
        rename_mask_set(first, "other")
    with pytest.raises(ValueError, match="belongs to the collection's source"):
        rename_mask_set(filled.mask_set("truth"), "mine")
    with pytest.raises(ValueError, match="belongs to the collection's source"):
        rename_mask_set(first, "truth")
    with pytest.raises(ValueError, match="cannot be named"):
        rename_mask_set(first, "../../elsewhere")
    assert filled.mask_set_names() == ["first", "other", "truth"]


def test_a_killed_deletion_leaves_no_mask_set(filled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    from fss.collection import part_io

    gone: list[str] = []

    def dies(uri: str) -> None:
        if gone:
            raise KeyboardInterrupt
        gone.append(uri)
        storage.resolve(uri)[0].delete_file(storage.resolve(uri)[1])

    monkeypatch.setattr(part_io, "delete", dies)
    with pytest.raises(KeyboardInterrupt):
        delete_mask_set(filled.mask_set("first"))
    assert filled.mask_set_names() == ["truth"]
