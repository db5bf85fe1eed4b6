"""Names in annotation files, and the files that they mean."""

import unicodedata

import pytest

from fss.collection.sources.names import NameIndex

PATHS = ["val/a.jpg", "val/b.jpg", "train/b.jpg", "val/Ä ö.png", "x/IMG_1.JPG", "x/c.jpg", "x/c.jpeg"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        *(("val/a.jpg", "val/a.jpg"), ("a.jpg", "val/a.jpg"), ("a", "val/a.jpg"), ("A.JPG", "val/a.jpg")),
        *(("images\\a.jpg", "val/a.jpg"), ("../upload/4/a.jpg", "val/a.jpg"), ("/data/x/a.png", "val/a.jpg")),
        *(("./val/b.jpg", "val/b.jpg"), ("b.jpg", None), ("train/b.jpg", "train/b.jpg"), ("elsewhere/b.jpg", None)),
        *(("/data/2/train/b.jpg", "train/b.jpg"), ("C:\\x\\Val\\b.jpeg", "val/b.jpg"), ("val/x/b.jpg", None)),
        *((unicodedata.normalize("NFD", "val/Ä ö.png"), "val/Ä ö.png"), ("img_1.jpg", "x/IMG_1.JPG")),
        *(("x/c.jpg", "x/c.jpg"), ("c.jpeg", "x/c.jpeg"), ("x/c", None), ("d.jpg", None), ("", None)),
    ],
)
def test_a_name_means_one_file_or_none(name: str, path: str | None) -> None:
    assert NameIndex(PATHS).find(name) == path


def test_a_decomposed_file_name_is_found_by_its_composed_spelling() -> None:
    path = unicodedata.normalize("NFD", "é.jpg")
    assert NameIndex([path]).find("images/é.png") == path
