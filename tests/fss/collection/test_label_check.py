"""What looks wrong about the ground truth is told, and nothing else is."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fss.collection import Collection, ingest_local
from fss.collection.config import SourceConfig
from fss.collection.label_check import LabelSummary, check_labels
from tests.helpers.bad_files.formats import encoded

HEIGHT, WIDTH = 40, 48
FOLDER = SourceConfig(path="/data")
INDEX = SourceConfig(path="/data", masks="index")
NAMES = {0: "ground", 1: "road", 2: "tree"}
MISSING = {"missing-mask": [("/data/images/a.png", "missing-mask: the source has no mask for it")]}
SIZE = {"size-mismatch": [("/data/images/a.png", "size-mismatch: mask 4 x 5, photograph 40 x 48 (height x width)")]}


def summary(**more: Any) -> LabelSummary:
    """Counts of ten pictures with plausible masks of the classes 1 and 2."""
    values = {"photographs": 10, "masks": 10, "classes": Counter({1: 8, 2: 4}), "covered": 3.0}
    return LabelSummary(**{**values, "notes": Counter({"pixels": 1000, "void-pixels": 100}), **more})


@pytest.mark.parametrize(
    ("counts", "source", "more", "note"),
    [
        ({}, INDEX, {}, ""),
        ({"masks": 9, "without": Counter({"missing-mask": 1}), "first": MISSING}, INDEX, {}, ""),
        ({"classes": Counter({1: 10})}, INDEX, {"complete": False}, ""),
        ({"classes": Counter({1: 10})}, INDEX, {"classes": {0: "ground", 1: "road"}}, ""),
        ({"classes": Counter({1: 10})}, SourceConfig(kind="fss1000", path="/data"), {}, ""),
        ({"classes": Counter({1: 5, 7: 5})}, INDEX, {"classes": {}}, ""),
        ({"covered": 9.0}, SourceConfig(path="/data", masks="index", background=None), {}, ""),
        ({"covered": 9.0}, SourceConfig(kind="cityscapes", path="/data"), {}, ""),
        ({"masks": 7, "without": Counter({"shared-mask": 3})}, INDEX, {}, ""),
        ({"photographs": 0, "masks": 0}, INDEX, {}, ""),
        (
            {"covered": 9.0},
            SourceConfig(path="/data", masks="colors"),
            {},
            "the classes cover 90% of a picture on average; if one of them is the background, give its id",
        ),
        (
            {"masks": 0, "without": Counter({"size-mismatch": 10}), "first": SIZE},
            INDEX,
            {},
            "none of the 10 photographs has a mask that can be used: 10 size-mismatch, such as that of imag",
        ),
        (
            {"masks": 7, "without": Counter({"missing-mask": 3}), "first": MISSING},
            INDEX,
            {"unmatched": ("masks/x.png",)},
            "3 of 10 photographs have no mask, such as images/a.png; masks without a photograph: masks/x.png",
        ),
        (
            {"masks": 9, "without": Counter({"size-mismatch": 1}), "first": SIZE},
            INDEX,
            {},
            "1 mask has another size than the photograph, such as that of images/a.png: mask 4 x 5, photograph 40 x 48",
        ),
        (
            {
                "without": Counter({"bad": 2, "no": 1}),
                "first": {"bad": [("/data/a.png", "bad: x")], "no": [("b", "no: y")]},
            },
            INDEX,
            {},
            "3 masks cannot be used: 2 bad, 1 no, such as that of a.png: bad: x",
        ),
        (
            {"notes": Counter({"pixels": 1000, "void-pixels": 990})},
            INDEX,
            {},
            "99% of the pixels of the masks are ignored; give --source.masks binary if 255 marks the object, or -",
        ),
        (
            {"classes": Counter()},
            INDEX,
            {},
            "no mask shows a class: all pixels are background; if 0 is a class as well",
        ),
        ({"classes": Counter()}, FOLDER, {}, "no mask shows a class: all pixels are background"),
        (
            {"classes": Counter({2: 10})},
            INDEX,
            {},
            "all masks show the class 2 (tree) only, although the class list has 2; if they mark one object, give -",
        ),
        (
            {"classes": Counter({5: 10})},
            SourceConfig(kind="voc", path="/data"),
            {"classes": {5: "bottle", 6: "bus"}},
            "all masks show the class 5 (bottle) only, although the class list has 2",
        ),
        ({"covered": 6.0}, FOLDER, {}, "the classes cover 60% of a picture on average; if that is the background"),
        (
            {"covered": 8.3},
            INDEX,
            {},
            "the classes cover 83% of a picture on average; if 0 is a class as well, give --source.b",
        ),
        (
            {"classes": Counter({1: 9, 2: 9, **{number: number for number in range(10, 17)}})},
            INDEX,
            {},
            "the class list lacks 7 ids that the masks hold: 10 (in 10 masks), 11 (in 11 masks), 12 (in 12 masks), "
            "13 (in 13 masks), 14 (in 14 masks) and 2 more; name them with --source.classes, or ignore them with -",
        ),
        (
            {"classes": Counter({1: 9, 65535: 4})},
            INDEX,
            {"classes": {}},
            "4 masks hold the value 65535, which is -1 in 16 bits; if it marks ignored pixels, give -",
        ),
        (
            {"classes": Counter({1: 9, 300: 4})},
            INDEX,
            {"classes": {}},
            "pixels of 255 are ignored, although the masks hold ids up to 300; give --source.void 65535 if 255 is a",
        ),
        ({"classes": Counter({1: 9, 300: 4})}, replace(INDEX, void=(65535,)), {"classes": {}}, ""),
        (
            {"notes": Counter({"exif-turned": 3})},
            INDEX,
            {},
            "3 masks were drawn on the stored pixels of a photograph that EXIF",
        ),
        (
            {"notes": Counter({"exif-ambiguous": 2})},
            INDEX,
            {},
            "2 masks belong to a photograph that EXIF turns or mirrors",
        ),
        (
            {"notes": Counter({"objects: not-finite": 1, "objects: two-points": 4})},
            INDEX,
            {},
            "5 objects were left out: 4 two-points, 1 not-finite",
        ),
    ],
)
def test_each_note(counts: dict[str, Any], source: SourceConfig, more: dict[str, Any], note: str) -> None:
    notes = check_labels(summary(**counts), source, **{"classes": NAMES, **more})
    assert len(notes) == bool(note), notes
    assert "".join(notes).startswith(note)


def write(root: Path, masks: dict[str, np.ndarray | None], photographs: str = "abcd") -> Path:
    """Write photographs, and masks by name."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name in photographs:
        (root / "images" / f"{name}.png").write_bytes(encoded("PNG"))
    for name, mask in masks.items():
        if mask is not None:
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def values(*rows: int) -> np.ndarray:
    """A mask whose rows have the given values, in bands."""
    return np.repeat(np.array(rows, np.uint8), HEIGHT // len(rows))[:, None].repeat(WIDTH, 1)


def test_the_counts_of_a_collection(tmp_path: Path) -> None:
    masks = {"a": values(1, 1, 0, 0), "b": values(1, 0, 0, 255), "c": np.ones((20, 30), np.uint8), "x": values(1, 0)}
    source = SourceConfig(path=str(write(tmp_path / "in", masks)), masks="index", class_names=("background", "road"))
    for part_size in (64, 1):
        made = ingest_local(source, f"{tmp_path}/{part_size}", part_size=part_size)
        assert made.notes == (
            "1 of 4 photographs has no mask, such as images/d.png; masks without a photograph: masks/x.png, ...",
            "1 mask has another size than the photograph, such as that of images/c.png: mask 20 x 30, photograph "
            "40 x 48 (height x width)",
        )
        assert made.notes == Collection.open(made.uri).notes
        assert made.ignored == {"masks without a photograph": 1}


def test_a_source_whose_masks_belong_to_other_photographs_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "in", {"x": values(0, 1), "y": values(0, 1)})
    with pytest.raises(
        ValueError, match=r"no photograph of .* has a mask: there are 4 .*images/a.png.*masks/x.png, masks/y.png"
    ):
        ingest_local(SourceConfig(path=str(root)), str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()
    assert ingest_local(SourceConfig(path=str(root), masks="none"), str(tmp_path / "c")).notes == ()
    Image.fromarray(values(0, 1)).save(root / "masks/d.png")
    with pytest.raises(ValueError, match=r"none of the first 3 photographs of .* give a larger --limit"):
        ingest_local(SourceConfig(path=str(root)), str(tmp_path / "d"), limit=3)


def test_plausible_masks_have_no_notes(tmp_path: Path) -> None:
    root = write(tmp_path / "in", {name: values(0, 0, 0, 255) for name in "abcd"})
    assert ingest_local(SourceConfig(path=str(root)), str(tmp_path / "c")).notes == ()
    framed = np.pad(np.zeros((38, 46), np.uint8), 1, constant_values=255)  # a white frame, or an inverted mask
    Image.fromarray(framed).save(root / "masks/a.png")
    (note,) = ingest_local(SourceConfig(path=str(root)), str(tmp_path / "f")).notes
    assert note.startswith("1 mask has an object on all edges of the picture around a background; look whether it is")
    assert ingest_local(SourceConfig(kind="sample", sample="labelled", count=4), str(tmp_path / "s")).notes == ()
