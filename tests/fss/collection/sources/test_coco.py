"""COCO's form in the layouts of its downloads and of annotation tools: masks, classes, names and faulty entries."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fss.collection import ingest_local
from fss.collection.annotations.coco import write_coco as write_coco_export
from fss.collection.image_names import ImageRoot
from fss.collection.mask_export import ExportedMask
from fss.collection.sources import Listing, RawItem, SourceConfig, list_items, read_item
from fss.collection.sources.coco import CATEGORY_IDS, COCO_CLASSES
from fss.collection.sources.coco_painting import paint
from fss.images.limits import DecodeLimits
from fss.synthetic.picture import render_sample_image
from tests.helpers.coco_documents import (
    HEIGHT,
    SQUARE,
    WIDTH,
    an_object,
    document,
    photograph,
    picture,
    write_data_set,
    write_document,
)
from tests.helpers.dataset_layouts import write_coco, write_grey

pytest.importorskip("pycocotools", reason="pycocotools is not installed")

LIMITS = DecodeLimits()
MUG = [{"id": 2, "name": "mug"}]


def _config(path: Path, subset: str = "", **more: Any) -> SourceConfig:
    return SourceConfig(kind="coco", path=str(path), subset=subset, **more)


def _class_map(raw: RawItem) -> np.ndarray:
    assert raw.label is not None, raw.mask_error
    table = np.array([0, *raw.label.class_ids, *[0] * (255 - len(raw.label.class_ids))])
    table[255] = 255
    return table[raw.label.mask]


def _square(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def _read(path: Path, subset: str = "", **more: Any) -> tuple[Listing, dict[str, RawItem]]:
    """Return the listing, and every item that was read by its path."""
    config = _config(path, subset, **more)
    listing = list_items(config)
    return listing, {item.relative_path: read_item(item, config, LIMITS) for item in listing.items}


def _areas(raw: RawItem) -> dict[int, int]:
    values, counts = np.unique(_class_map(raw), return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True) if value}


# Masks


def test_crowds_beside_other_classes_than_cocos_are_told(tmp_path: Path) -> None:
    objects = [an_object(category=2), an_object(_square(32, 10, 10), category=2, iscrowd=1)]
    listing, rows = _read(write_data_set(tmp_path, document(objects, categories=MUG)))
    assert _areas(rows["val2014/a.jpg"]) == {2: 400, 255: 100}
    (warning,) = listing.warnings
    assert "1 of 2 objects are crowds (iscrowd 1), so their pixels are ignored; CVAT writes single masks so" in warning
    write_document(tmp_path, document([an_object(), an_object(iscrowd=1)]))
    assert not list_items(_config(tmp_path)).warnings


def test_pictures_of_lvis_have_addresses_alone(tmp_path: Path) -> None:
    images = [{"id": 1, "height": HEIGHT, "width": WIDTH, "coco_url": "http://images.cocodataset.org/val2017/a.jpg"}]
    content = document([an_object(category=1203)], images, [{"id": 1203, "name": "zucchini"}])
    listing, rows = _read(write_data_set(tmp_path, content, ("val2017/a.jpg",), "lvis_v1_val.json"))
    assert listing.classes == {1203: "zucchini"} and not listing.warnings
    assert _areas(rows["val2017/a.jpg"]) == {1203: 400}


@pytest.mark.parametrize("rendered", [True, False])
def test_both_layouts_give_the_painted_masks(tmp_path: Path, rendered: bool) -> None:
    write_coco(tmp_path, "train2014", count=2, rendered=rendered)
    write_coco(tmp_path, "val2014", count=1, rendered=rendered, seed=4)
    listing = list_items(_config(tmp_path, "all"))
    assert [item.relative_path.split("/")[0] for item in listing.items] == ["train2014", "train2014", "val2014"]
    assert len(listing.classes) == 80 and listing.classes[80] == "toothbrush"
    for item, (number, seed) in zip(listing.items, [(0, 0), (1, 0), (0, 4)], strict=True):
        raw = read_item(item, _config(tmp_path), LIMITS)
        np.testing.assert_array_equal(_class_map(raw), render_sample_image(number, seed, "labelled").mask)


def test_the_listing_of_a_standard_download_has_its_old_hash(tmp_path: Path) -> None:
    objects = [an_object(), an_object({"counts": [0, 96, 2976], "size": [48, 64]}, category=90, iscrowd=1)]
    categories = [{"id": i, "name": n, "supercategory": "x"} for i, n in zip(CATEGORY_IDS, COCO_CLASSES, strict=True)]
    write_data_set(tmp_path, document(objects, [picture(), picture("b.jpg", 2)], categories))
    photograph(tmp_path / "val2014/c.jpg")
    listing = list_items(_config(tmp_path, "val2014"))
    assert listing.items[0].annotation == (
        '{"height":48,"width":64,"objects":[[1,0,[[10,10,30,10,30,30,10,30]]],'
        '[80,1,{"counts":[0,96,2976],"size":[48,64]}]]}'
    )
    assert listing.items[1].annotation is None and listing.hash() == "c0def72059bd1b86"
    assert listing.ignored == {"annotated photographs that are missing": 1} and listing.unmatched == ("b.jpg",)


def test_small_objects_lie_over_large_ones_and_crowds_below_all() -> None:
    crowd = {"counts": [0, 8 * 20, 400 - 8 * 20], "size": [20, 20]}  # the first 8 columns
    objects = [[7, 0, _square(2, 2, 4)], [3, 0, _square(0, 0, 12)], [5, 1, crowd]]
    label = paint({"height": 20, "width": 20, "objects": objects}, LIMITS)
    assert label.class_ids == (3, 7) and label.mask[3, 3] == 2
    assert label.mask[8, 3] == 1 and label.mask[8, 10] == 1
    assert label.mask[15, 3] == 255 and label.mask[15, 12] == 0


@pytest.mark.parametrize("name", ["background", "void", "ignore"])
def test_what_is_called_background_or_ignored_is_no_class(tmp_path: Path, name: str) -> None:
    categories = [{"id": 2, "name": "mug"}, {"id": 1, "name": name}, {"id": 3, "name": "pot"}]
    squares = ((_square(0, 0, 40), 2), (_square(10, 10, 20), 1), (_square(12, 12, 5), 3))
    objects = [an_object(square, category=category) for square, category in squares]
    listing, rows = _read(write_data_set(tmp_path, document(objects, categories=categories)))
    inside = {3: 25} if name == "background" else {255: 400}  # what is drawn to be ignored covers everything
    assert _areas(rows["val2014/a.jpg"]) == {2: 1200} | inside
    assert listing.classes == {2: "mug", 3: "pot"}
    (note,) = [note for note in listing.notes if "stand for" in note]
    assert note.startswith(f"the categories {name!r} (1) stand for {'no class' if name == 'background' else 'ignored'}")


def test_one_id_above_80_refuses_all_category_pictures(tmp_path: Path) -> None:
    write_coco(tmp_path, "val2014", count=3, rendered=True)
    first = sorted((tmp_path / "annotations" / "val2014").glob("*.png"))[0]
    write_grey(first, np.full((48, 64), 90))  # a toothbrush by COCO's own ids, which have gaps
    errors = [item.mask_error for item in list_items(_config(tmp_path, "val2014")).items]
    assert len(errors) == 3 and all(f"category-ids: the value 90 in {first.name}" in str(error) for error in errors)


def test_new_categories_of_a_grown_folder_keep_their_names(tmp_path: Path) -> None:
    source = _config(tmp_path / "data")
    file, pictures = "x.json", [picture("a.jpg", 1), picture("b.jpg", 2)]
    cup, dog = {"id": 1, "name": "cup"}, {"id": 3, "name": "dog"}
    write_data_set(tmp_path / "data", document([an_object()], pictures[:1], [cup]), ("a.jpg",), file)
    ingest_local(source, str(tmp_path / "c"))
    objects = [an_object(), an_object(image=2, category=3)]
    write_data_set(tmp_path / "data", document(objects, pictures, [cup, dog]), ("b.jpg",), file)
    assert ingest_local(source, str(tmp_path / "c"), append=True).classes == {1: "cup", 3: "dog"}
    write_document(tmp_path / "data", document(objects, pictures, [cup | {"id": 2}, dog]), file)
    with pytest.raises(ValueError, match=r"the classes of the folder have changed \(class 2 is 'cup' now\)"):
        ingest_local(source, str(tmp_path / "c"), append=True)


def test_a_crowd_alone_is_a_mask_without_classes() -> None:
    label = paint({"height": 48, "width": 64, "objects": [[5, 1, SQUARE]]}, LIMITS)
    assert label.class_ids == () and (label.mask == 255).sum() == 400 and not label.left_out


@pytest.mark.parametrize("count", [254, 255])
def test_up_to_254_classes_are_visible(count: int) -> None:
    objects = [[1000 + number, 0, _square(2 * (number % 100), 2 * (number // 100), 2)] for number in range(count)]
    annotation = {"height": 20, "width": 200, "objects": objects}
    if count == 254:
        assert paint(annotation, LIMITS).class_ids == tuple(range(1000, 1254))
    else:
        with pytest.raises(ValueError, match="too-many-classes"):
            paint(annotation, LIMITS)


def test_a_photograph_without_objects_is_all_background(tmp_path: Path) -> None:
    write_data_set(tmp_path, document(pictures=[picture("b.jpg", 2), picture()]), ("val2014/a.jpg", "val2014/b.jpg"))
    photograph(tmp_path / "val2014/c.jpg")
    _, rows = _read(tmp_path)
    assert _areas(rows["val2014/a.jpg"]) == {1: 400} and _areas(rows["val2014/b.jpg"]) == {}
    assert str(rows["val2014/c.jpg"].mask_error).startswith("missing-mask")


# Faulty entries


@pytest.mark.parametrize(
    ("reason", "entry"),
    [
        *(("no-outline", an_object(outline)) for outline in ([], [[]], None, {})),
        ("no-outline", {"image_id": 1, "category_id": 1}),
        *(("too-few-points", an_object(outline)) for outline in ([[40, 40, 45, 45]], [[1, 2], [3, 4]])),
        *(("bad-coordinates", an_object([[v, 10, 30, 10, 30, 30]])) for v in (None, float("nan"), float("inf"), "1")),
        *(("bad-run-lengths", an_object({"size": [48, 64], "counts": runs})) for runs in ([5, 5], "PP", None)),
        ("size-mismatch", an_object({"size": [64, 48], "counts": [3072]})),
        *(("unknown-category", an_object(category=category)) for category in (7, None, [1], {}, True, "person")),
        *(("bad-iscrowd", an_object(iscrowd=crowd)) for crowd in (2, "no", [0], {})),
        *((None, an_object(image=image)) for image in (99, None, [1], True, "x")),
        *((None, entry) for entry in ("object", None, [], 7)),
    ],
)
def test_a_faulty_object_is_left_out_and_counted(tmp_path: Path, reason: str | None, entry: Any) -> None:
    write_data_set(tmp_path, document([entry, an_object(id=2)]))
    listing, rows = _read(tmp_path)
    label = rows["val2014/a.jpg"].label
    assert label is not None and (label.mask == 1).sum() == 400
    assert label.left_out == ({} if reason is None else {reason: 1})
    assert sum(" are left out (1)" in warning for warning in listing.warnings) == (reason is None)


@pytest.mark.parametrize(
    ("entry", "area"),
    [
        *((an_object(iscrowd=crowd), {1: 400}) for crowd in (None, 0, False, "0", 0.0)),
        *((an_object(iscrowd=crowd), {255: 400}) for crowd in (1, True, "1", 1.0)),
        *((an_object(image=number, category=number), {1: 400}) for number in ("1", 1.0, " 1 ")),
        (an_object(SQUARE[0]), {1: 400}),
        (an_object([[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]]), {1: HEIGHT * WIDTH}),
    ],
)
def test_an_unusual_spelling_is_read(tmp_path: Path, entry: Any, area: dict[int, int]) -> None:
    write_data_set(tmp_path, document([entry]))
    _, rows = _read(tmp_path)
    label = rows["val2014/a.jpg"].label
    assert _areas(rows["val2014/a.jpg"]) == area and label is not None and not label.left_out


def test_a_picture_whose_objects_are_all_faulty_has_a_reason_instead_of_an_empty_mask(tmp_path: Path) -> None:
    objects = [an_object([]), an_object([]), an_object(category=9), an_object(image=2)]
    pictures = [picture(), picture("b.jpg", 2)]
    write_data_set(tmp_path, document(objects, pictures), ("val2014/a.jpg", "val2014/b.jpg"))
    _, rows = _read(tmp_path)
    expected = "no-outline: no object of the picture can be painted (2 no-outline, 1 unknown-category)"
    assert rows["val2014/a.jpg"].mask_error == expected
    assert _areas(rows["val2014/b.jpg"]) == {1: 400}


@pytest.mark.parametrize(
    "size",
    [
        *(
            {"height": value}
            for value in (None, 0, -48, 48.5, "x", True, 10**9, 32_001, float("nan"), [48], "9" * 5000)
        ),
        *({"width": value} for value in (None, 0, 1e400)),
        {"height": 10_000, "width": 10_000},
    ],
)
def test_a_size_that_no_photograph_has_is_a_reason(tmp_path: Path, size: dict[str, Any]) -> None:
    write_data_set(tmp_path, document(pictures=[picture(**size)]))
    _, rows = _read(tmp_path)
    assert str(rows["val2014/a.jpg"].mask_error).startswith("bad-size: the annotation file gives height ")


@pytest.mark.parametrize("size", [{"height": 48.0, "width": 64.0}, {"height": "48", "width": "64"}])
def test_a_size_that_is_a_whole_number_is_read(tmp_path: Path, size: dict[str, Any]) -> None:
    write_data_set(tmp_path, document(pictures=[picture(**size)]))
    assert _areas(_read(tmp_path)[1]["val2014/a.jpg"]) == {1: 400}


def test_pictures_that_cannot_be_told_apart_have_a_reason(tmp_path: Path) -> None:
    pictures = [
        *(picture("a.jpg", 1), picture("b.jpg", "1"), picture("c.jpg", None), picture("d.jpg", 4)),
        *(picture("x/e.jpg", 5), picture("y/e.jpg", 6), picture("f.jpg", 7), picture("f.jpg", 8, width=65)),
        *(picture("g.jpg", 9), picture("g.jpg", 10), picture("h.jpg", 11), picture("elsewhere/h.jpg", 12)),
        *("picture", None, picture(None, 13), {}),
    ]
    objects = [an_object(image=number, id=number) for number in (1, 4, 5, 6, 7, 9, 11, 13)]
    objects += [an_object(_square(40, 10, 5), image=number) for number in (10, 12)]
    write_data_set(tmp_path, document(objects, pictures), tuple(f"val2014/{name}.jpg" for name in "abcdefgh"))
    listing, rows = _read(tmp_path)
    reasons = {name[8]: (raw.mask_error or "").split(":")[0] for name, raw in rows.items()}
    expected = {"a": "ambiguous-id", "b": "ambiguous-id", "c": "no-id", "e": "ambiguous-name", "f": "ambiguous-name"}
    assert reasons == dict.fromkeys("dgh", "") | expected
    assert _areas(rows["val2014/d.jpg"]) == _areas(rows["val2014/h.jpg"]) == {1: 400}
    assert _areas(rows["val2014/g.jpg"]) == {1: 425}  # equal entries are one picture
    assert listing.unmatched == ("elsewhere/h.jpg",)
    assert listing.ignored == {"annotated photographs that are missing": 1}
    assert [warning.partition("val2014.json")[2] for warning in listing.warnings] == [
        ": pictures that are no dictionaries are left out (2)",
        ": pictures without a file_name are left out (2)",
        " lists 4 photographs more than once; objects of equal entries are joined",
    ]
    assert any("several objects with the id 1;" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"images": []}',
            "is no annotation file of COCO: its top-level keys are 'images'; a COCO file has the lists",
        ),
        ({"version": 5, "shapes": []}, "its top-level keys are 'version', 'shapes'"),
        ([{"image": "a.jpg", "annotations": []}], "it is a list of 1 entries with the keys 'image', 'annotations'"),
        ({"images": {}, "annotations": []}, "is no annotation file of COCO"),
        *(([], "it is a list"), ("text", "it is a str"), (b"null", "it is a NoneType"), (b"{}", "keys are none")),
        (b"", "is no valid JSON: Expecting value, in line 1, column 1; the file starts with b''"),
        (b"<html>no</html>", "the file starts with b'<html>no</html>'"),
        (b'{"images": [1,], "annotations": []}', "a comma stands before a closing bracket, in line 1, column 15"),
        (b'{"images": [],}', "a comma stands before a closing bracket"),
        (b'{"images": "\xff"}', "can't decode byte 0xff"),
        (b'{"images": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", "is no valid JSON: Exceeds the limit"),
        (
            document([an_object([], bbox=[1, 2, 3, 4]), an_object(None)]),
            "has no outlines: no segmentation in it has polygons or run lengths (objects: 2, with 'id', ",
        ),
        (
            document([{"id": 1, "image_id": 1, "caption": "a mug"}]),
            "(objects: 1, with 'id', 'image_id', 'caption'); export polygons",
        ),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path: Path, content: Any, message: str) -> None:
    write_data_set(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        list_items(_config(tmp_path, "val2014"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_of_any_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    content = json.dumps(document(pictures=[picture("ä.jpg")]), ensure_ascii=False).encode(encoding)
    write_data_set(tmp_path, content, ("images/ä.jpg",), "result.json")
    assert _areas(_read(tmp_path)[1]["images/ä.jpg"]) == {1: 400}


def test_an_outline_that_is_nested_deeply_does_not_stop_the_others(tmp_path: Path) -> None:
    text = json.dumps(document([an_object("DEEP"), an_object(image=2)], [picture(), picture("b.jpg", 2)]))
    deep = text.replace('"DEEP"', "[" * 700 + "]" * 700).encode()
    write_data_set(tmp_path, deep, ("val2014/a.jpg", "val2014/b.jpg"))
    _, rows = _read(tmp_path)
    assert str(rows["val2014/a.jpg"].mask_error).startswith("bad-")
    assert _areas(rows["val2014/b.jpg"]) == {1: 400}


# Classes


@pytest.mark.parametrize(
    ("categories", "used", "classes"),
    [
        ([{"id": 90, "name": "toothbrush"}], 90, {80: "toothbrush"}),
        (MUG, 2, {2: "mug"}),
        ([{"id": 1, "name": "mug"}], 1, {1: "mug"}),
        ([{"id": 91, "name": "mug"}], 91, {91: "mug"}),
        ([{"id": 90, "name": "toothbrush"}, {"id": 91, "name": "mug"}], 90, {90: "toothbrush"}),
        ([{"id": 65535, "name": "mug"}], 65535, {65535: "mug"}),
        ([{"id": 0, "name": "mug"}], 0, {1: "mug"}),
        ([{"id": 0, "name": "mug"}, {"id": 1, "name": "cup"}], 1, {2: "cup"}),
        ([{"id": 0, "name": "drinks"}, {"id": 1, "name": "mug", "supercategory": "drinks"}], 1, {1: "mug"}),
        ([{"id": 0, "name": "background"}, {"id": 1, "name": "mug"}], 1, {1: "mug"}),
        ([{"id": 0, "name": "Background"}, {"id": 1, "name": "mug"}], 0, {}),
        ([{"id": 3, "name": "background"}, {"id": 1, "name": "mug"}], 3, {}),
        ([{"id": 2, "name": "cafe\u0301"}, {"id": 2, "name": "caf\u00e9"}], 2, {2: "caf\u00e9"}),
        ([{"id": 70_001, "name": "cup"}, {"id": 70_000, "name": "mug"}], 70_000, {1: "mug"}),
        ([{"id": -1, "name": "cup"}, {"id": 5, "name": "mug"}], 5, {1: "mug"}),
        ([{"id": "b", "name": "cup"}, {"id": "a", "name": "mug"}], "a", {1: "mug"}),
        ([{"id": "7", "name": "mug"}, {"id": "007", "name": "cup"}], 7, {1: "mug"}),
        ([{"id": 2, "name": " mug "}, {"id": 2, "name": "mug"}], 2, {2: "mug"}),
        ([{"id": 2, "name": "mug"}, {"id": 3, "name": "mug"}], 3, {3: "mug (3)"}),
        ([{"id": 2, "name": 7}], 2, {2: "7"}),
        ([{"id": 2, "name": "\ud800"}], 2, {2: "\\ud800"}),
        ([{"id": 2}], 2, {2: None}),
        ([], 5, {5: None}),
        ("none", 5, {5: None}),
        ([None, {"name": "cup"}, {"id": [], "name": "cup"}, *MUG], 2, {2: "mug"}),
        ([{"id": number, "name": ""} for number in CATEGORY_IDS], 90, {80: "toothbrush"}),
    ],
)
def test_classes_are_those_that_the_file_names(
    tmp_path: Path, categories: Any, used: Any, classes: dict[int, str | None]
) -> None:
    write_data_set(tmp_path, document([an_object(category=used)], categories=categories))
    listing, rows = _read(tmp_path)
    label = rows["val2014/a.jpg"].label
    assert label is not None
    assert {class_id: listing.classes.get(class_id) for class_id in label.class_ids} == classes
    assert 0 not in listing.classes


@pytest.mark.parametrize(
    ("categories", "note"),
    [
        ([{"id": 0, "name": "mug"}], "category ids begin at 0, so every class id is its category id plus 1"),
        ([{"id": "a", "name": "mug"}], "the classes are numbered from 1 to 1 in the order of the ids"),
        ([{"id": 2, "name": "mug"}, {"id": 3, "name": "mug"}], "several categories are called mug"),
        ([{"id": 1, "name": "mug"}, {"id": 1, "name": "cup"}, *MUG], "calls category 1 both 'mug' and 'cup'"),
        ([], "names no categories"),
    ],
)
def test_what_is_unusual_about_classes_is_noted(tmp_path: Path, categories: Any, note: str) -> None:
    write_data_set(tmp_path, document(categories=categories))
    listing = list_items(_config(tmp_path))
    assert any(note in each for each in (*listing.notes, *listing.warnings))


def test_a_category_with_two_names_is_left_out(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "mug"}, {"id": 1, "name": "cup"}, {"id": 2, "name": "fork"}]
    write_data_set(tmp_path, document([an_object(), an_object(_square(40, 10, 5), category=2)], categories=categories))
    label = _read(tmp_path)[1]["val2014/a.jpg"].label
    assert label is not None and label.class_ids == (2,) and label.left_out == {"unknown-category": 1}


def test_files_of_one_source_agree_on_their_classes(tmp_path: Path) -> None:
    for name, category in (("train", "mug"), ("valid", "cup")):
        content = document(categories=[{"id": 1, "name": category}])
        write_data_set(tmp_path, content, (f"{name}/a.jpg",), f"{name}/_annotations.coco.json")
    with pytest.raises(ValueError, match="calls category 1 'cup', and another file of the source calls it 'mug'"):
        list_items(_config(tmp_path))
    assert list_items(_config(tmp_path, "valid")).classes == {1: "cup"}


# Layouts and names


@pytest.mark.parametrize(
    ("file", "photographs", "names", "subset"),
    [
        ("annotations/instances_val2014.json", ("val2014/a.jpg", "val2014/b.jpg"), ("a.jpg", "b.jpg"), ""),
        ("annotations/instances_val2017.json", ("val2017/a.jpg", "val2017/b.jpg"), ("a.jpg", "b.jpg"), "val2017"),
        ("annotations/instances_val2017.json", ("images/val2017/a.jpg", "images/val2017/b.jpg"), ("a.jpg", "b"), "all"),
        ("annotations/instances_default.json", ("images/a.jpg", "images/b.jpg"), ("a.jpg", "b.jpg"), ""),
        (
            "annotations/instances_default.json",
            ("images/default/a.jpg", "images/default/b.jpg"),
            ("a.jpg", "b.jpg"),
            "",
        ),
        ("annotations/instances_Train.json", ("images/Train/s/a.jpg", "images/Train/b.jpg"), ("s/a.jpg", "b.jpg"), ""),
        ("train/_annotations.coco.json", ("train/a.jpg", "train/b.jpg"), ("a.jpg", "b.jpg"), ""),
        ("ds/valid/_annotations.coco.json", ("ds/valid/a.jpg", "ds/valid/b.jpg"), ("a.jpg", "b.jpg"), "ds/valid"),
        ("_annotations.coco.json", ("a.jpg", "b.jpg"), ("a.jpg", "b.jpg"), ""),
        ("result.json", ("images/a.jpg", "images/b.jpg"), ("images\\a.jpg", "/data/local-files/?d=x%2Fb.jpg"), ""),
        ("result.json", ("images/a b.jpg", "images/c.jpg"), ("../upload/1/a%20b.jpg", "images/c.jpg"), ""),
        ("annotations.json", ("a.jpg", "b.jpg"), ("a.jpg", "b.jpg"), ""),
        ("labels.json", ("data/a.jpg", "data/b.jpg"), ("data/a.jpg", "/home/me/ds/data/b.jpg"), ""),
        ("annotations/train.json", ("images/train/a.jpg", "images/train/b.jpg"), ("a.jpg", "b.jpg"), ""),
        ("out/instances.json", ("x/mug/1.jpg", "x/cup/1.jpg"), ("cup/1.jpg", "mug/1.jpg"), "all"),
        ("result.json", ("images/A.JPG", "images/b.jpeg"), ("C:\\data\\a.jpg", "images/b.png"), ""),
    ],
)
def test_annotation_files_are_found(
    tmp_path: Path, file: str, photographs: tuple[str, ...], names: tuple[str, ...], subset: str
) -> None:
    pictures = [picture(name, number) for number, name in enumerate(names)]
    objects = [an_object(_square(0, 0, 5 + number), number, 2) for number in range(2)]
    write_data_set(tmp_path, document(objects, pictures, MUG), photographs, file)
    listing, rows = _read(tmp_path, subset)
    assert listing.classes == {2: "mug"} and not listing.unmatched
    assert sorted(_areas(raw)[2] for raw in rows.values()) == [25, 36] and sorted(rows) == sorted(photographs)


def test_our_own_export_gives_equal_masks(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:9, 3:20], mask[20:, 30:], mask[0, 0] = 1, 2, 255
    exported = ExportedMask(name="a", image_id="", uri="/there/images/a.jpg", mask=mask, classes=(2, 300))
    pieces: list[bytes] = []
    write_coco_export(iter([exported]), {2: "mug", 300: "cup"}, ImageRoot(uri="/there"), pieces.append)
    write_data_set(tmp_path / "data", b"".join(pieces), ("images/a.jpg",), "../instances.json")
    listing, rows = _read(tmp_path / "data", annotations=str(tmp_path / "instances.json"))
    label = rows["images/a.jpg"].label
    assert label is not None and label.class_ids == (2, 300) and listing.classes == {2: "mug", 300: "cup"}
    np.testing.assert_array_equal(label.mask, mask)


def test_photographs_outside_of_the_folder_of_a_file_are_left_out(tmp_path: Path) -> None:
    content = document([an_object(category=2)], categories=MUG)
    write_data_set(tmp_path, content, ("images/a.jpg", "images/b.jpg", "other/c.jpg"), "result.json")
    assert [item.relative_path for item in list_items(_config(tmp_path)).items] == ["images/a.jpg", "images/b.jpg"]
    write_data_set(tmp_path, document(pictures=[picture("c.jpg")]), file="result.json")
    assert [item.relative_path for item in list_items(_config(tmp_path)).items] == ["other/c.jpg"]
    write_data_set(tmp_path, document(), ("other/a.jpg",), "result.json")
    _, rows = _read(tmp_path, images="other")
    assert sorted(rows) == ["other/a.jpg", "other/c.jpg"] and _areas(rows["other/a.jpg"]) == {1: 400}


def test_masks_beside_photographs_are_no_photographs(tmp_path: Path) -> None:
    photographs = ("a.jpg", "b.jpg", "a.png", "masks/a.jpg", "masks/b.png")
    write_data_set(tmp_path, document(), photographs, "instances.json")
    assert [item.relative_path for item in list_items(_config(tmp_path)).items] == ["a.jpg", "b.jpg"]
    with pytest.raises(
        ValueError, match=r"--source\.images is 'photos', where no photographs are; the folders are masks"
    ):
        list_items(_config(tmp_path, images="photos"))
    assert list_items(_config(tmp_path, images="masks")).items[0].relative_path == "masks/a.jpg"


def test_an_annotation_file_is_chosen(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere.json"
    for file, category in (("one.json", 2), ("sub/two.json", 3)):
        categories = [{"id": number, "name": f"class {number}"} for number in (2, 3)]
        write_data_set(root, document([an_object(category=category)], categories=categories), ("images/a.jpg",), file)
    write_document(tmp_path, document([an_object(SQUARE[0][:6], category=2)], categories=MUG), "elsewhere.json")
    with pytest.raises(
        ValueError, match=r"several annotation files: one\.json, sub/two\.json; choose one with --source"
    ):
        list_items(_config(root))
    for annotations, expected in [
        *(("one.json", {2: 400}), ("sub\\two.json", {3: 400}), (str(root / "sub/two.json"), {3: 400})),
        (str(elsewhere), {2: 190}),
    ]:
        _, rows = _read(root, annotations=annotations)
        assert _areas(rows["images/a.jpg"]) == expected
    with pytest.raises(
        ValueError, match=r"no annotation file three\.json.*JSON files of the source are one\.json, sub/"
    ):
        list_items(_config(root, annotations="three.json"))
    with pytest.raises(ValueError, match=r"leave out --source\.subset train"):
        list_items(_config(root, "train", annotations="one.json"))


def test_subsets_of_a_data_set_are_chosen_by_name(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        file = f"{name}/_annotations.coco.json"
        write_data_set(tmp_path, document([an_object(category=2)], categories=MUG), (f"{name}/a.jpg",), file)
    for subset in ("", "all"):
        _, rows = _read(tmp_path, subset)
        assert sorted(rows) == ["test/a.jpg", "train/a.jpg", "valid/a.jpg"]
        assert all(_areas(raw) == {2: 400} for raw in rows.values())
    assert [item.relative_path for item in list_items(_config(tmp_path, "valid")).items] == ["valid/a.jpg"]
    with pytest.raises(ValueError, match="has the subsets test, train, valid; got 'val'"):
        list_items(_config(tmp_path, "val"))


def test_a_photograph_of_two_subsets_has_a_reason(tmp_path: Path) -> None:
    for name, pictures in (("a", ["x.jpg", "y.jpg"]), ("b", ["y.jpg", "z.jpg"])):
        content = document([an_object()], [picture(each, number) for number, each in enumerate(pictures, 1)])
        photographs = tuple(f"images/{each}.jpg" for each in "xyz")
        write_data_set(tmp_path, content, photographs, f"annotations/instances_{name}.json")
    _, rows = _read(tmp_path)
    assert _areas(rows["images/x.jpg"]) == {1: 400} and _areas(rows["images/z.jpg"]) == {}
    assert str(rows["images/y.jpg"].mask_error).startswith("ambiguous-name: two subsets")


def test_names_that_fit_no_photograph_are_told(tmp_path: Path) -> None:
    write_data_set(tmp_path, document(pictures=[picture("q.jpg")]))
    message = "no file_name of .*val2014.json fits .*: the file lists q.jpg, and the photographs are val2014/a.jpg"
    with pytest.raises(ValueError, match=message):
        list_items(_config(tmp_path))
    write_data_set(tmp_path, document(), ("train2014/a.jpg",), "annotations/instances_train2014.json")
    listing, rows = _read(tmp_path)
    assert str(rows["val2014/a.jpg"].mask_error).startswith("missing-mask")
    assert listing.unmatched == ("q.jpg",) and listing.warnings[0].startswith("no file_name of ")


def test_what_is_missing_is_named_with_its_address(tmp_path: Path) -> None:
    write_coco(tmp_path, "val2014", count=1, rendered=False)
    for subset, message in (
        ("all", r"no photographs train2014.*cocodataset"),
        ("val2017", r"no photographs val2017.*val2017\.zip"),
        ("train", "has the subsets val2014; got 'train'"),
    ):
        with pytest.raises(ValueError, match=message):
            list_items(_config(tmp_path, subset))
    (tmp_path / "annotations" / "instances_val2014.json").unlink()
    with pytest.raises(ValueError, match=r"annotations_trainval2014\.zip"):
        list_items(_config(tmp_path, "val2014"))
    with pytest.raises(ValueError, match=r"no annotation file in COCO's form.*--source\.annotations FILE"):
        list_items(_config(tmp_path))


def test_annotations_without_their_photographs_are_left_out_of_all(tmp_path: Path) -> None:
    write_coco(tmp_path, "val2017", count=1, rendered=False)
    write_document(tmp_path, document(), "annotations/instances_train2017.json")
    write_document(tmp_path, document([{"caption": "x"}]), "annotations/captions_val2017.json")
    listing = list_items(_config(tmp_path))
    assert [item.relative_path.split("/")[0] for item in listing.items] == ["val2017"]
    assert any("the subsets train2017 are left out" in note for note in listing.notes)
    with pytest.raises(ValueError, match="no photographs train2017"):
        list_items(_config(tmp_path, "train2017"))


def test_counts_are_noted_and_missing_masks_told(tmp_path: Path) -> None:
    names = write_coco(tmp_path, "val2014", count=2, rendered=True)
    (tmp_path / "annotations" / "val2014" / f"{names[1]}.png").unlink()
    listing = list_items(_config(tmp_path, "val2014"))
    assert listing.notes == ("2 photographs in val2014; the standard download has 40504",)
    assert str(read_item(listing.items[1], _config(tmp_path), LIMITS).mask_error).startswith("missing-mask")


def test_a_category_beyond_80_is_an_error_of_that_mask(tmp_path: Path) -> None:
    (name,) = write_coco(tmp_path, "val2014", count=1, rendered=True)
    write_grey(tmp_path / "annotations" / "val2014" / f"{name}.png", np.full((20, 20), 90))
    (item,) = list_items(_config(tmp_path, "val2014")).items
    unproven = replace(item, mask_error=None)  # as where the listing did not open the picture
    assert str(read_item(unproven, _config(tmp_path), LIMITS).mask_error).startswith("unknown-class")


def test_without_pycocotools_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path, "val2014", count=1, rendered=False)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ValueError, match=r"needs pycocotools, .*pip install 'fss-masks\[coco\]'"):
        list_items(_config(tmp_path, "val2014"))
