"""Masks of colours and of named ids, in folders and in VOC trees with a labelmap.txt: the class is the declared one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fss.collection import ingest_local
from fss.collection.config import SourceConfig
from fss.collection.sources import list_items, read_item
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import encoded
from tests.helpers.dataset_layouts import write_bytes, write_grey, write_palette, write_rgb

VALUES = np.repeat([0, 1, 2], [14, 13, 13])[:, None].repeat(48, axis=1)  # 40 x 48, each value in a third of the rows
COLORS = [(0, 0, 0), (128, 0, 0), (9, 99, 200)]
TABLE = "background:0,0,0::\ncup:128,0,0::\npot:9,99,200::\n"
CSV = "name,r,g,b\nbackground,0,0,0\ncup,128,0,0\npot,9,99,200\n"
RIGHT = ["none", "cup", "pot"]  # classes of the thirds
VOC_PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def _tree(root: Path, files: dict[str, str] | None = None, images: str = "images") -> Path:
    write_bytes(root / images / "a.jpg", encoded("JPEG"))
    for name, content in (files or {}).items():
        write_bytes(root / name, content.encode())
    return root


def _read(root: Path, **settings: Any) -> list[str] | str:
    """Return the class names of the thirds of the only mask, or the reason why there is none."""
    config = SourceConfig(path=str(root), **settings)
    listing = list_items(config)
    (item,) = listing.items
    raw = read_item(item, config, DecodeLimits())
    if raw.label is None:
        return str(raw.mask_error)
    values = [int(raw.label.mask[row, 9]) for row in (0, 20, 39)]
    roles = {0: "none", 255: "void"}
    return [roles.get(value) or listing.classes.get(raw.label.class_ids[value - 1], "unnamed") for value in values]


@pytest.mark.parametrize("table", [TABLE, CSV])
def test_colours_of_a_folder(tmp_path: Path, table: str) -> None:
    file = "labelmap.txt" if ":" in table else "classes.csv"
    own, other = _tree(tmp_path / "own", {file: table}), _tree(tmp_path / "other")
    write_bytes(tmp_path / file, table.encode())
    for root in (own, other):
        write_rgb(root / "masks/a.png", VALUES, COLORS)
    assert _read(own, masks="colors") == RIGHT
    assert _read(own, colors=file) == RIGHT  # a name in the folder
    assert _read(other, colors=str(tmp_path / file)) == RIGHT
    listing = list_items(SourceConfig(path=str(own), masks="colors"))
    assert listing.classes == {1: "cup", 2: "pot"}
    assert listing.notes == (f"the classes are those of {file} in the folder; --source.colors FILE gives others",)
    assert _read(own, masks="index") == "colors: the mask has colours instead of one class id per pixel; " + (
        f"give --source.colors {file}"
    )


@pytest.mark.parametrize(
    ("table", "settings", "expected", "names"),
    [
        ("cup:128,0,0\npot:9,99,200", {}, RIGHT, {0: "cup", 1: "pot"}),  # black without a name is the background
        ("cup:128,0,0\nBackground:0,0,0\npot:9,99,200", {}, RIGHT, {0: "cup", 2: "pot"}),
        ("sky:0,0,0\ncup:128,0,0\npot:9,99,200", {}, ["sky", "cup", "pot"], {0: "sky", 1: "cup", 2: "pot"}),
        ("sky:0,0,0\ncup:128,0,0\npot:9,99,200", {"background": 2}, ["sky", "cup", "none"], {0: "sky", 1: "cup"}),
        ("bg:0,0,0\ncup:128,0,0\nIgnore:9,99,200", {}, ["none", "cup", "void"], {1: "cup"}),
        ("bg:0,0,0\ncup:128,0,0\npot:9,99,200", {"void": (2,)}, ["none", "cup", "void"], {1: "cup"}),
        (
            "bg:0,0,0\npot:9,99,200",
            {},
            "unknown-color: 624 pixels have colours that the table lacks: (128, 0, 0)",
            None,
        ),
        ("white:255,255,255\nbackground:1,1,1\ncup:128,0,0\npot:9,99,200", {}, "unknown-color: 672 pixels", None),
    ],
)
def test_background_and_ignored_classes(
    tmp_path: Path, table: str, settings: dict[str, Any], expected: list[str] | str, names: dict[int, str] | None
) -> None:
    root = _tree(tmp_path, {"labelmap.txt": table})
    write_rgb(root / "masks/a.png", VALUES, COLORS)
    result = _read(root, masks="colors", **settings)
    assert result == expected or (isinstance(expected, str) and str(result).startswith(expected))
    if names is not None:
        assert list_items(SourceConfig(path=str(root), masks="colors", **settings)).classes == names


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.csv", "id,name,images\n1,cup,3\n2,pot,4\n", RIGHT),
        ("classes.txt", "background\ncup\npot\n", RIGHT),
        ("labelmap.txt", TABLE, RIGHT),
        ("classes.txt", "cup\nbackground\npot\n", ["cup", "none", "pot"]),
        ("classes.csv", "1,cup\n2,void\n", ["none", "cup", "void"]),
        ("classes.csv", "1,cup\n", ["none", "cup", "unnamed"]),
    ],
)
def test_names_of_index_masks(tmp_path: Path, file: str, text: str, expected: list[str]) -> None:
    own, other = _tree(tmp_path / "own", {file: text}), _tree(tmp_path / "other")
    write_bytes(tmp_path / file, text.encode())
    for root in (own, other):
        write_grey(root / "masks/a.png", VALUES)
    assert _read(own, masks="index") == _read(other, classes=str(tmp_path / file)) == expected
    notes = list_items(SourceConfig(path=str(own), masks="index")).notes
    assert notes == (f"the classes are those of {file} in the folder; --source.classes FILE gives others",)
    assert _read(own, masks="index", class_names=("", "mug", "can")) == ["none", "mug", "can"]
    assert _read(own)[:10] == "class-ids:"  # nothing says that the values are class ids


def test_a_list_whose_first_name_would_be_the_background_is_a_warning(tmp_path: Path) -> None:
    root = _tree(tmp_path, {"classes.txt": "cup\npot\ncan\n"})
    write_grey(root / "masks/a.png", VALUES)
    (warning,) = list_items(SourceConfig(path=str(root), masks="index")).warnings
    assert warning.startswith("class 0, 'cup' in classes.txt, is read as the background; give --source.background None")
    assert _read(root, masks="index") == ["none", "pot", "can"]
    assert _read(root, masks="index", background=None) == ["cup", "pot", "can"]


def test_subfolders_may_have_the_list(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write_bytes(tmp_path / part / "_classes.csv", b"Pixel Value, Class\n0, background\n1, cup\n2, pot\n")
    write_bytes(tmp_path / "train/a.jpg", encoded("JPEG"))
    write_grey(tmp_path / "train/a_mask.png", VALUES)
    assert _read(tmp_path, masks="index") == RIGHT
    for text, message in ((b"1,mug\n", "have different classes"), (b"1,mug\n1,can\n", "line 2: the id 1 is that of")):
        write_bytes(tmp_path / "valid/_classes.csv", text)
        with pytest.raises(ValueError, match=message + ".*--source.classes FILE gives another class list"):
            _read(tmp_path, masks="index")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": "colors"}, "masks=colors needs a colour per class; give --source.colors FILE"),
        ({"colors": "nowhere.csv"}, "the class list nowhere.csv cannot be read"),
        ({"colors": "names.txt"}, "names.txt has no colour for 'cup'"),
        ({"colors": "a", "classes": "b"}, "colors and classes are both given"),
        ({"colors": "a", "masks": "index"}, "colors is for masks=colors, but masks=index is given"),
        ({"classes": "a", "masks": "binary"}, "classes is for masks=index, but masks=binary is given"),
        (
            {"colors": "a", "kind": "coco"},
            "colors is for the kinds folder, voc, webdataset, parquet; a source of",
        ),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    root = _tree(tmp_path, {"names.txt": "cup\npot\n"})
    write_rgb(root / "masks/a.png", VALUES, COLORS)
    with pytest.raises(ValueError, match=message):
        list_items(SourceConfig(path=str(root), **settings))


def _voc(root: Path, labelmap: str | None, write: Any, *arguments: Any) -> Path:
    _tree(root, {} if labelmap is None else {"labelmap.txt": labelmap}, images="JPEGImages")
    write(root / "SegmentationClass/a.png", *arguments)
    return root


@pytest.mark.parametrize(
    ("labelmap", "write", "arguments", "expected"),
    [
        (TABLE, write_rgb, (VALUES, COLORS), RIGHT),
        (TABLE, write_palette, (VALUES, sum(COLORS, ())), RIGHT),
        # Palette numbers in another order than the labelmap's: the colours are declared, the numbers are not.
        (TABLE, write_palette, (VALUES + 3, [1] * 9 + [*COLORS[0], *COLORS[2], *COLORS[1]]), ["none", "pot", "cup"]),
        ("pot:9,99,200::\nbackground:0,0,0::\ncup:128,0,0::\n", write_rgb, (VALUES, COLORS), RIGHT),
        (TABLE, write_palette, (VALUES, VOC_PALETTE), "unknown-color: 624 pixels have colours that the table lacks"),
        (TABLE, write_palette, (VALUES * 127 + (VALUES == 2), VOC_PALETTE), "unknown-color"),  # 127 has no colour
        (
            TABLE,
            write_palette,
            (np.where(VALUES == 2, 255, VALUES), [*VOC_PALETTE, *[7] * 756]),
            ["none", "cup", "void"],
        ),
        (TABLE, write_rgb, (VALUES, [*COLORS[:2], (224, 224, 192)]), ["none", "cup", "void"]),
        (TABLE, write_grey, (VALUES,), RIGHT),
        (TABLE, write_grey, (VALUES + 1,), "unknown-class: the values 3 stand for no class"),
        ("bg:0,0,0::\ncup:1,1,1::\npot:2,2,2::\n", write_grey, (VALUES,), ["none", "cup", "pot"]),
        ("bg:0,0,0::\npot:2,2,2::\ncup:1,1,1::\n", write_grey, (VALUES,), ["none", "cup", "pot"]),
        ("cup:128,0,0::\npot:9,99,200::\n", write_palette, (VALUES, sum(COLORS, ())), RIGHT),
        ("cup:128,0,0::\npot:9,99,200::\n", write_grey, (VALUES,), "unknown-color"),  # 0 may be cup or background
        ("background:::\ncup:::\npot:::\n", write_palette, (VALUES, VOC_PALETTE), RIGHT),
        ("background:::\ncup:::\n", write_palette, (VALUES, VOC_PALETTE), "unknown-class: the values 2"),
        (None, write_palette, (VALUES, VOC_PALETTE), ["none", "aeroplane", "bicycle"]),
        (None, write_grey, (VALUES * 20,), "unknown-class: the values 40 stand for no class"),
        (None, write_rgb, (VALUES, COLORS), "colors: the mask has colours"),
    ],
)
def test_a_labelmap_names_the_classes_of_voc_trees(
    tmp_path: Path, labelmap: str | None, write: Any, arguments: Any, expected: list[str] | str
) -> None:
    result = _read(_voc(tmp_path, labelmap, write, *arguments), kind="voc")
    assert result == expected or (isinstance(expected, str) and str(result).startswith(expected)), result


def test_settings_win_over_a_labelmap(tmp_path: Path) -> None:
    root = _voc(tmp_path / "tree", TABLE, write_palette, VALUES, VOC_PALETTE)
    write_bytes(tmp_path / "other.txt", b"background\nmug\ncan\n")
    write_bytes(tmp_path / "colors.csv", b"background,0,0,0\nmug,0,128,0\ncan,128,0,0\n")
    assert _read(root, kind="voc", classes=str(tmp_path / "other.txt")) == ["none", "mug", "can"]
    assert _read(root, kind="voc", colors=str(tmp_path / "colors.csv")) == ["none", "can", "mug"]


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_labelmap_may_lie_above_the_tree(tmp_path: Path, below: str) -> None:
    _voc(tmp_path / below, None, write_rgb, VALUES, COLORS)
    write_bytes(tmp_path / "labelmap.txt", TABLE.encode())
    assert _read(tmp_path, kind="voc") == RIGHT


def test_names_in_the_settings_mean_what_they_mean_in_a_file(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    write_grey(root / "masks/a.png", VALUES)
    assert _read(root, masks="index", class_names=("cup", "background", "void")) == ["cup", "none", "void"]
    assert _read(root, masks="index", class_names=("background", "cup", "pot")) == RIGHT
    config = SourceConfig(path=str(root), masks="index", class_names=("bowl", "cup", "pot"))
    (warning,) = list_items(config).warnings
    assert warning.startswith("class 0, 'bowl' in --source.class-names, is read as the background; give --source.backg")
    with pytest.raises(ValueError, match="class_names has 'cup' more than once"):
        SourceConfig(masks="index", class_names=("cup", "cup"))


@pytest.mark.parametrize("file", ["labelmap.txt", "class_names.txt", "SegmentationClass/labelmap.txt"])
def test_trees_of_other_tools_have_their_own_classes(tmp_path: Path, file: str) -> None:
    root = _voc(tmp_path / "task/export", None, write_palette, VALUES, VOC_PALETTE)
    (warning,) = list_items(SourceConfig(path=str(tmp_path), kind="voc")).warnings
    assert "the classes are taken as its 20; give --source.classes FILE" in warning
    write_bytes(root / file, b"_background_\ncup\npot\n")
    listing = list_items(SourceConfig(path=str(tmp_path), kind="voc"))
    assert listing.warnings == () and listing.classes == {1: "cup", 2: "pot"}
    _voc(tmp_path / "task/other", None, write_palette, VALUES, VOC_PALETTE)
    with pytest.raises(ValueError, match="several folders with JPEGImages: task/export, task/other; give one"):
        list_items(SourceConfig(path=str(tmp_path), kind="voc"))


def test_a_palette_that_contradicts_the_list_is_refused(tmp_path: Path) -> None:
    root = _tree(tmp_path, {"labelmap.txt": TABLE})
    write_palette(root / "masks/a.png", VALUES, [128, 0, 0, 9, 99, 200, 0, 0, 0])
    assert "give --source.colors labelmap.txt" in _read(root, masks="index")
    write_palette(root / "masks/a.png", VALUES, [0, 0, 0, 5, 5, 5, 9, 9, 9])  # colours for display
    assert _read(root, masks="index") == RIGHT


def test_the_meaning_is_stored_with_the_collection(tmp_path: Path) -> None:
    root, table = _tree(tmp_path / "data"), tmp_path / "table.txt"
    write_bytes(table, TABLE.encode())
    write_rgb(root / "masks/a.png", VALUES, COLORS)
    source = SourceConfig(path=str(root), colors=str(table))
    collection = ingest_local(source, str(tmp_path / "collection"))
    assert collection.classes == {1: "cup", 2: "pot"}
    ingest_local(source, collection.uri)  # nothing has changed
    write_bytes(table, TABLE.replace("9,99", "8,88").encode())
    for append, message in ((False, "made from another source"), (True, "the classes of the folder have changed")):
        with pytest.raises(ValueError, match=message):
            ingest_local(source, collection.uri, append=append)


def test_lists_that_are_wrong_for_voc_are_told(tmp_path: Path) -> None:
    _voc(tmp_path, "cup:::\npot:::\ncan:::\n", write_grey, VALUES)
    (warning,) = list_items(SourceConfig(path=str(tmp_path), kind="voc")).warnings
    assert warning.startswith("class 0, 'cup' in labelmap.txt, is read as the background")
    write_bytes(tmp_path / "labelmap.txt", b"background:0,0,0::\ncup:999,0,0::\n")
    with pytest.raises(ValueError, match=r"line 2: the colour '999,0,0' is .*; --source.colors FILE gives another"):
        list_items(SourceConfig(path=str(tmp_path), kind="voc"))
