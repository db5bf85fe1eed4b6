"""A folder in FSS-1000's layout says how it differs from the published data set, and is taken all the same."""

from pathlib import Path

from fss.collection.sources import SourceConfig, list_items
from tests.helpers.dataset_layouts import write_fss1000


def test_a_smaller_set_is_noted(tmp_path):
    write_fss1000(tmp_path, ["one", "two"], images=3)
    listing = list_items(SourceConfig(kind="fss1000", path=str(tmp_path)))
    assert len(listing.items) == 6
    assert listing.notes == ("2 classes, 2 not with 10 images; FSS-1000 has 1000 with 10 each",)


def test_a_name_in_another_form_of_unicode_is_the_same_class(tmp_path):
    write_fss1000(tmp_path, ["cafe\u0301", "two"], images=3)
    (tmp_path / "splits.json").write_text('{"train": ["caf\u00e9"], "test": ["two"]}')
    listing = list_items(SourceConfig(kind="fss1000", path=str(tmp_path)))
    assert listing.classes == {1: "caf\u00e9", 2: "two"} and listing.class_splits == {"train": [1], "test": [2]}


def test_the_published_counts_pass_without_a_note(tmp_path):
    for number in range(1000):
        folder = Path(tmp_path, f"class{number:04d}")
        folder.mkdir()
        for image in range(1, 11):
            (folder / f"{image}.jpg").touch()
            (folder / f"{image}.png").touch()
    listing = list_items(SourceConfig(kind="fss1000", path=str(tmp_path)))
    assert len(listing.items) == 10_000 and listing.notes == ()
