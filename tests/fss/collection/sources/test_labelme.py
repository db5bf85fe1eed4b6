"""labelme's files: every shape as labelme paints it, faults counted one by one, photographs found however they lie."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fss.collection import ingest_local
from fss.collection.config import SourceConfig
from fss.collection.sources import Listing, RawItem, list_items, read_item
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import encoded
from tests.helpers.dataset_layouts import write_bytes
from tests.helpers.fuzzing import damage

LIMITS = DecodeLimits()
HEIGHT, WIDTH = 40, 48
JPEG = encoded("JPEG", Image.new("RGB", (WIDTH, HEIGHT)))
BOX = [[10, 5], [29, 5], [29, 24], [10, 24]]  # 20 x 20 pixels, as labelme counts the outline


def shape(points: Any = BOX, label: Any = "cup", kind: Any = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def document(*shapes: Any, image: str | None = "a.jpg", **more: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    } | more


def png(values: np.ndarray) -> str:
    return base64.b64encode(encoded("PNG", Image.fromarray(values.astype(np.uint8)))).decode()


def put(root: Path, files: dict[str, Any]) -> SourceConfig:
    for name, content in files.items():
        write_bytes(root / name, content if isinstance(content, bytes) else json.dumps(content).encode())
    return SourceConfig(kind="labelme", path=str(root))


def read(root: Path, *shapes: Any, **more: Any) -> RawItem:
    config = put(root, {"a.jpg": JPEG, "a.json": document(*shapes, **more)})
    return read_item(list_items(config).items[0], config, LIMITS)


def names(listing: Listing, raw: RawItem) -> dict[str, int]:
    assert raw.label is not None, raw.mask_error
    return {listing.classes[c]: int((raw.label.mask == v).sum()) for v, c in enumerate(raw.label.class_ids, start=1)}


@pytest.mark.parametrize(
    ("one", "box", "area"),
    [
        (shape(), (10, 5, 30, 25), 400),
        (shape(kind=None), (10, 5, 30, 25), 400),
        (shape([[29, 24], [10, 5]], kind="rectangle"), (10, 5, 30, 25), 400),
        (shape(kind="rectangle"), (10, 5, 30, 25), 400),  # four points, as other tools write them
        (shape(kind="rotation", direction=0.0), (10, 5, 30, 25), 400),
        (shape([[10.4, 5.2], [29, 5], [29, 24], [10, 24]]), (10, 5, 30, 25), 400),
        (shape([[-20, -20], [29, -20], [29, 24], [-20, 24]]), (0, 0, 30, 25), 750),
        (shape([[-9e4, -9e4], [9e4, -9e4], [9e4, 9e4], [-9e4, 9e4]]), (0, 0, WIDTH, HEIGHT), HEIGHT * WIDTH),
        (shape([[20, 20], [29, 20]], kind="circle"), (11, 11, 30, 30), 281),
        (shape([[0, 0], [9, 0]], kind="circle"), (0, 0, 10, 10), None),
        (shape([[10, 5], [29, 24]], kind="mask", mask=png(np.ones((20, 20)))), (10, 5, 30, 25), 400),
        (shape([[10, 5], [29, 24]], kind="mask", mask=png(np.eye(20) * 255)), (10, 5, 30, 25), 20),
        (shape([[40, 35], [59, 54]], kind="mask", mask=png(np.ones((20, 20)))), (40, 35, WIDTH, HEIGHT), 40),
    ],
)
def test_shapes_have_the_pixels_that_labelme_gives_them(
    tmp_path: Path, one: Any, box: tuple[int, int, int, int], area: int | None
) -> None:
    raw = read(tmp_path, one)
    assert raw.label is not None, raw.mask_error
    rows, columns = np.nonzero(raw.label.mask == 1)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box
    assert area is None or abs(len(rows) - area) <= 0.02 * area
    assert raw.label.class_ids == (1,) and not raw.label.left_out


def test_later_shapes_cover_earlier_ones_and_reserved_labels_have_their_meaning(tmp_path: Path) -> None:
    half, hole, ring = ([[x, 5], [29, 5], [29, 24], [x, 24]] for x in (20, 24, 28))
    shapes = [shape(), shape(half, "pot"), shape(hole, "_background_"), shape(ring, "__ignore__")]
    config = put(tmp_path, {"a.jpg": JPEG, "a.json": document(*shapes)})
    listing = list_items(config)
    raw = read_item(listing.items[0], config, LIMITS)
    assert listing.classes == {1: "cup", 2: "pot"}
    assert names(listing, raw) == {"cup": 200, "pot": 80}
    assert int((raw.label.mask == 255).sum()) == 40
    assert names(listing, read(tmp_path, shape(half, "pot"), shape())) == {"cup": 400}  # the pot is hidden


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    content = json.dumps(document(shape(label="caf\u00e9")), ensure_ascii=False).encode("latin-1")
    with pytest.raises(ValueError, match=r"no annotation files of labelme, .*; bad-annotation: a\.json is no"):
        list_items(put(tmp_path, {"a.jpg": JPEG, "a.json": content}))


def test_what_is_called_background_or_void_is_no_class(tmp_path: Path) -> None:
    half, hole = ([[x, 5], [29, 5], [29, 24], [x, 24]] for x in (20, 25))
    config = put(tmp_path, {"a.jpg": JPEG, "a.json": document(shape(), shape(half, "Background"), shape(hole, "void"))})
    listing = list_items(config)
    raw = read_item(listing.items[0], config, LIMITS)
    assert listing.classes == {1: "cup"} and names(listing, raw) == {"cup": 200}
    assert raw.label is not None and int((raw.label.mask == 255).sum()) == 100
    assert listing.notes[0].startswith("the labels 'Background', 'void' stand for background or ignored pixels")


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (shape([[1, 1]], kind="point"), "no-area"),
        (shape([[1, 1], [2, 2]], kind="line"), "no-area"),
        (shape(kind="linestrip"), "no-area"),
        (shape(kind="points"), "no-area"),
        (shape(kind="star"), "unknown-shape"),
        (shape(kind=["polygon"]), "unknown-shape"),
        (shape([]), "too-few-points"),
        (shape(BOX[:2]), "too-few-points"),
        (shape(BOX[:1], kind="circle"), "too-few-points"),
        (shape(None), "bad-coordinates"),
        (shape([1, 2, 3, 4]), "bad-coordinates"),
        (shape([[1, 2, 3]] * 4), "bad-coordinates"),
        (shape([["1", 2]] * 4), "bad-coordinates"),
        (shape([[True, 2]] * 4), "bad-coordinates"),
        (shape([[float("nan"), 2], *BOX]), "bad-coordinates"),
        (shape([[float("inf"), 2], *BOX]), "bad-coordinates"),
        (shape([[1e300, 2], *BOX]), "bad-coordinates"),
        (shape([[10**400, 2], *BOX]), "bad-coordinates"),
        (shape([[0, 0], [9e4, 9e4]], kind="circle"), "bad-coordinates"),
        (shape([[-9e4, 0], [9e4, 0]] * 100), "outline-too-long"),
        (shape([[60, 60], [90, 60], [90, 90]]), "no-pixels"),
        (shape([[10, 5], [29, 24]], kind="mask"), "bad-mask"),
        (shape([[10, 5], [29, 24]], kind="mask", mask="%%"), "bad-mask"),
        (shape([[10, 5], [29, 24]], kind="mask", mask=png(np.ones((9, 9)))), "bad-mask"),
        (shape([[10, 5]], kind="mask", mask=png(np.ones((20, 20)))), "bad-mask"),
        (shape([[10, 5], [29, 24]], kind="mask", mask=png(np.zeros((20, 20)))), "no-pixels"),
        (shape([[70, 5], [89, 24]], kind="mask", mask=png(np.ones((20, 20)))), "no-pixels"),
        (shape(label=None), "no-label"),
        (shape(label=" "), "no-label"),
        (shape(label="\ud800"), "no-label"),
        ("cup", "bad-shape"),
        (None, "bad-shape"),
    ],
)
def test_a_faulty_shape_is_left_out_and_counted(tmp_path: Path, one: Any, reason: str) -> None:
    raw = read(tmp_path, shape(), one)
    assert raw.label is not None and raw.label.left_out == {reason: 1}
    assert int((raw.label.mask == 1).sum()) == 400
    alone = read(tmp_path, one)
    assert alone.label is None and (alone.mask_error or "").startswith(
        f"{reason}: no shape of the picture can be painted"
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"imageHeight": 0}, "bad-size: imageHeight is 0, imageWidth is 48"),
        ({"imageWidth": "48"}, "bad-size: imageHeight is 40, imageWidth is '48'"),
        ({"imageWidth": 10**9}, "bad-size"),
        ({"imageWidth": 30_000, "imageHeight": 30_000}, "too-many-pixels"),
        ({"imageWidth": None}, "bad-size"),
        ({"shapes": {"label": "cup"}}, "bad-annotation: shapes is no list, but dict"),
        ({"imageWidth": None, "imageHeight": None}, None),
        ({"shapes": []}, None),
    ],
)
def test_sizes_and_shapes_are_checked(tmp_path: Path, more: dict[str, Any], reason: str | None) -> None:
    raw = read(tmp_path, shape(), **more)
    assert (raw.mask_error or "").startswith(reason or "") and (raw.label is None) == (reason is not None)


FOUND = {
    "beside": ({"a.jpg": JPEG, "a.json": document(shape())}, "a.jpg"),
    "other folder": ({"imgs/a.jpg": JPEG, "ann/a.json": document(shape(), image="..\\imgs\\a.jpg")}, "imgs/a.jpg"),
    "other path": ({"imgs/a.jpg": JPEG, "ann/a.json": document(shape(), image="C:\\work\\a.jpg")}, "imgs/a.jpg"),
    "other name": ({"b.jpg": JPEG, "a.json": document(shape(), image="b.jpg")}, "b.jpg"),
    "renamed": ({"b.jpg": JPEG, "b.json": document(shape(), image="a.jpg")}, "b.jpg"),
    "other suffix": ({"a.png": JPEG, "a.json": document(shape(), image="a.jpg")}, "a.png"),
    "no imagePath": ({"a.jpg": JPEG, "a.json": document(shape(), image=None)}, "a.jpg"),
    "byte order mark": ({"a.jpg": JPEG, "a.json": b"\xef\xbb\xbf" + json.dumps(document(shape())).encode()}, "a.jpg"),
    "NFC and NFD": ({"cafe\u0301.jpg": JPEG, "x.json": document(shape(), image="caf\u00e9.jpg")}, "cafe\u0301.jpg"),
    "imageData": ({"a.json": document(shape(), imageData=base64.b64encode(JPEG).decode())}, "a.json"),
}


@pytest.mark.parametrize("layout", FOUND)
def test_the_photograph_of_a_file_is_found(tmp_path: Path, layout: str) -> None:
    files, photograph = FOUND[layout]
    config = put(tmp_path, files)
    listing = list_items(config)
    (item,) = listing.items
    assert item.relative_path == photograph
    raw = read_item(item, config, LIMITS)
    assert raw.data == JPEG and names(listing, raw) == {"cup": 400}


def test_copied_files_and_labels_in_two_spellings_are_warnings(tmp_path: Path) -> None:
    files = {"a.jpg": JPEG, "b.jpg": JPEG, "b.json": document(shape(), shape(label="Cup"), image="a.jpg")}
    copied, spelled = list_items(put(tmp_path, files)).warnings
    assert "1 files is not the photograph of their name, and it counts: b.json has a.jpg; correct imagePath" in copied
    assert spelled == "the labels 'Cup', 'cup' are different classes; spell them alike if they are one"


def test_one_bad_file_costs_one_mask(tmp_path: Path) -> None:
    files = {
        "broken.jpg": JPEG,
        "broken.json": b'{"shapes": [',
        "free.jpg": JPEG,
        "good.jpg": JPEG,
        "good.json": document(shape(), image="good.jpg"),
        "lost.json": document(shape(label="pot"), image="nowhere.jpg"),
        "other.json": {"info": 1},
        "notes.txt": b"",
        "twice.jpg": JPEG,
        "twice.json": document(shape(), image="twice.jpg"),
        "copy.json": document(shape(), image="twice.jpg"),
        "empty.json": document(shape(), image="-", imageData="%"),
    }
    config = put(tmp_path, files)
    listing = list_items(config)
    rows = {item.relative_path: read_item(item, config, LIMITS) for item in listing.items}
    errors = {path: str(row.mask_error).split(":")[0] for path, row in rows.items()}
    assert errors == {
        "broken.jpg": "bad-annotation",
        "free.jpg": "missing-mask",
        "good.jpg": "None",
        "twice.jpg": "several-masks",
        "empty.json": "no-image",
    }
    assert str(rows["empty.json"].error).startswith("corrupt: imageData is no base64")
    assert listing.ignored == {"other files": 2, "annotation files without a photograph": 1}
    assert listing.unmatched == ("lost.json",)


def test_a_folder_without_labelmes_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no annotation files of labelme"):
        list_items(put(tmp_path, {"a.jpg": JPEG, "a.json": {"images": []}}))


def test_a_collection_of_photographs_within_files(tmp_path: Path) -> None:
    source = put(tmp_path / "data", {"a.json": document(shape(), imageData=base64.b64encode(JPEG).decode())})
    with pytest.raises(ValueError, match="must store their bytes; set keep_bytes"):
        ingest_local(source, str(tmp_path / "references"), keep_bytes=False)
    collection = ingest_local(source, str(tmp_path / "collection"))
    (row,) = collection.read_part(collection.part_names()[0]).to_pylist()
    assert row["image"] == JPEG and row["error"] is None and collection.classes == {1: "cup"}


def test_damaged_files_are_masks_or_reasons(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shapes = [shape(), shape(BOX[::2], "pot", "rectangle"), shape(BOX[:2], "can", "circle")]
    shapes.append(shape(BOX[::2], "pan", "mask", mask=png(np.ones((20, 20)))))
    whole = json.dumps(document(*shapes)).encode()
    files: dict[str, Any] = {"good.jpg": JPEG, "good.json": document(shape(), image="good.jpg")}
    for number in range(300):
        files |= {f"{number}.jpg": JPEG, f"{number}.json": damage(whole, rng)}
    config = put(tmp_path, files)
    listing = list_items(config)
    assert len(listing.items) >= 301
    for item in listing.items:
        raw = read_item(item, config, LIMITS)
        assert (raw.label is None) == (raw.mask_error is not None)
        if raw.label is not None:
            assert set(np.unique(raw.label.mask).tolist()) <= {255, *range(len(raw.label.class_ids) + 1)}
