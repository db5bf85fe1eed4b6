"""Export and import of masks: equal pixels in every form, photographs found by id and name, faults told."""

import contextlib
import csv
import json
import random
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fss.cli import main
from fss.collection import Collection, ingest_local
from fss.collection.annotations.files import READERS, Form
from fss.collection.annotations.painting import paint
from fss.collection.class_names import BACKGROUND, Label, resolve_labels
from fss.collection.image_names import Photograph, find_image_root, match_images
from fss.collection.mask_import import ImportReport, import_masks
from fss.collection.schema import image_table, mask_table
from fss.collection.sources import SourceConfig
from fss.collection.verify import find_problems
from fss.core.arrays import IGNORE, Mask
from fss.images.decode_errors import DecodeError
from fss.images.mask_codec import decode_mask, mask_row

SIZE = (20, 28)
NAMES = ("cups/1.png", "mugs/1.png", "größe/ein Bild & mehr.png", "a.png", "mugs/deep/100%.png", "leer.png")
CLASSES = {7: "cat", 12: 'dog "big" <&>', 200: "größe"}
FORMS: dict[str, list[str]] = {
    "png": ["--values", "class"],
    "coco": [],
    "labelstudio": [],
    "cvat": [],
}
FILES = {"coco": "instances.json", "labelstudio": "tasks.json", "cvat": "annotations.xml", "png": "masks.csv"}


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main.main([str(word) for word in words])
    return int(end.value.code or 0)


def block_mask(rng: np.random.Generator, classes: int) -> Mask:
    """Random blocks of background, every class and ignored pixels."""
    values = [*range(classes + 1), IGNORE]
    blocks = rng.choice(values, (5, 7)).astype(np.uint8)
    return np.kron(blocks, np.ones((4, 4), np.uint8))


def class_maps(collection: Collection, mask_set: str) -> dict[str, np.ndarray | str]:
    """Return the class id of every pixel, -1 where ignored, or the error of a row, by the photograph's URI."""
    maps: dict[str, np.ndarray | str] = {}
    for part in collection.part_names():
        uris = collection.read_part(part, ["uri"]).column("uri").to_pylist()
        for uri, row in zip(uris, collection.mask_set(mask_set).read_part(part).to_pylist(), strict=True):
            if row["mask"] is None:
                maps[uri] = row["error"]
                continue
            ids = {value: entry["id"] for value, entry in enumerate(row["classes"], start=1)}
            table = np.array([ids.get(value, 0) for value in range(255)] + [-1])
            maps[uri] = table[decode_mask(row["mask"])]
    return maps


def assert_equal_pixels(collection: Collection, first: str, second: str) -> None:
    one, other = class_maps(collection, first), class_maps(collection, second)
    assert one.keys() == other.keys()
    for uri, pixels in one.items():
        np.testing.assert_array_equal(other[uri], pixels, uri)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs in folders, and a collection with the mask set ``made`` of several classes and ignored pixels."""
    tmp_path = tmp_path_factory.mktemp("original")
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rgb = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(path)
    collection = ingest_local(
        SourceConfig(path=str(tmp_path / "photos"), masks="none"), str(tmp_path / "collection"), part_size=4
    )
    collection.add_classes(CLASSES)
    masks = collection.create_mask_set("made", config_hash="0", provenance={"method": "test"})
    rng = np.random.default_rng(5)
    for part in collection.part_names():
        rows = []
        for row in collection.read_part(part, ["image_id", "uri"]).to_pylist():
            mask = block_mask(rng, 3)
            if row["uri"].endswith("leer.png"):
                mask = np.zeros_like(mask)
            if row["uri"].endswith("a.png"):
                mask[mask != 0] = IGNORE
            rows.append(mask_row(row["image_id"], mask, [12, 7, 200]))
        masks.write_part(part, mask_table(rows))
    return tmp_path


@pytest.fixture
def photos(original: Path) -> Path:
    return original / "photos"


@pytest.fixture
def collection(original: Path, tmp_path: Path) -> Collection:
    shutil.copytree(original / "collection", tmp_path / "collection")
    return Collection.open(str(tmp_path / "collection"))


def exported(collection: Collection, folder: Path, form: str, *words: object) -> Path:
    more = FORMS[form]
    assert command("masks", "export", collection.uri, "made", "--output", folder, "--form", form, *more, *words) == 0
    return folder


def edit_json(path: Path, change: Callable[[Any], Any]) -> Path:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip_gives_equal_pixels(collection: Collection, form: str, tmp_path: Path) -> None:
    folder = exported(collection, tmp_path / form, form)
    for name, source in (("back", folder), ("again", folder / FILES[form])):
        assert command("masks", "import", collection.uri, "--name", name, "--from", source) == 0
        assert_equal_pixels(collection, "made", name)
    provenance = collection.mask_set("back").provenance
    assert (provenance["method"], provenance["form"], len(provenance["hash"])) == ("import", form, 16)
    assert Collection.open(collection.uri).classes == CLASSES
    assert not list(find_problems(collection))
    first = {path.name: path.read_bytes() for path in Path(collection.mask_set("back").uri).glob("part-*")}
    next(Path(collection.mask_set("back").uri).glob("part-*")).unlink()
    assert import_masks(collection, "back", str(folder)).is_complete, "an import can be repeated"
    assert first == {path.name: path.read_bytes() for path in Path(collection.mask_set("back").uri).glob("part-*")}


@pytest.mark.parametrize("form", ["coco", "labelstudio", "cvat"])
def test_names_alone_find_the_photographs(collection: Collection, form: str, tmp_path: Path) -> None:
    """Other programs drop our image ids, and write names in their own way."""
    path = exported(collection, tmp_path / form, form) / FILES[form]
    if form == "cvat":
        path.write_text(re.sub(r' image_id="[^"]*"', "", unicodedata.normalize("NFD", path.read_text())))
    elif form == "coco":

        def change(content: Any) -> None:
            for image in content["images"]:
                image["file_name"] = "D:\\data\\" + image["file_name"].replace("/", "\\").upper()
                del image["image_id"]

        edit_json(path, change)
    else:
        edit_json(path, lambda tasks: [task["data"].pop("image_id") for task in tasks] and None)
    report = import_masks(collection, "back", str(path))
    assert report.is_complete, report
    assert_equal_pixels(collection, "made", "back")
    assert Collection.open(collection.uri).classes == CLASSES


def test_names_are_relative_to_the_image_root(
    collection: Collection, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    content = json.loads((exported(collection, tmp_path / "coco", "coco") / "instances.json").read_text())
    assert {image["file_name"] for image in content["images"]} == set(NAMES)
    assert content["info"]["image_root"] == str(photos) == find_image_root(collection).uri
    assert all(row["iscrowd"] == 0 and row["area"] > 0 and len(row["bbox"]) == 4 for row in content["annotations"])
    content = json.loads(
        (exported(collection, tmp_path / "ls", "labelstudio", "--image-root", photos.parent) / "tasks.json").read_text()
    )
    assert "/data/local-files/?d=photos/gr%C3%B6%C3%9Fe/ein%20Bild%20%26%20mehr.png" in [
        task["data"]["image"] for task in content
    ]
    words = ["masks", "export", collection.uri, "made", "--output", tmp_path / "no", "--form", "cvat"]
    capsys.readouterr()
    assert command(*words, "--image-root", photos / "mugs") == 2
    assert "lies outside of the image root" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_masks_of_objects_get_their_class_back(collection: Collection, tmp_path: Path, capsys: Any) -> None:
    masks = collection.create_mask_set("one", config_hash="1", provenance={})
    rng = np.random.default_rng(3)
    for part in collection.part_names():
        ids = collection.read_part(part, ["image_id"]).column("image_id").to_pylist()
        masks.write_part(part, mask_table(mask_row(each, block_mask(rng, 1), [7]) for each in ids))
    words = ["masks", "import", collection.uri, "--name", "back", "--from", tmp_path / "one"]
    assert command("masks", "export", collection.uri, "one", "--output", tmp_path / "one") == 0
    assert command(*words) == 0
    assert_equal_pixels(collection, "one", "back")
    assert command("masks", "export", collection.uri, "made", "--output", tmp_path / "many") == 0
    capsys.readouterr()
    assert command(*words[:-1], tmp_path / "many", "--overwrite") == 2
    assert "--values class" in capsys.readouterr().err


def saved_as(mode: str, path: Path) -> None:
    """Save a mask again as an editor would."""
    pixels = np.asarray(Image.open(path))
    if mode == "RGBA":
        Image.fromarray(np.dstack([pixels] * 3 + [np.full_like(pixels, 255)])).save(path)
    elif mode == "1":
        Image.fromarray(pixels).convert("1").save(path)
    elif mode == "P":
        image = Image.fromarray(np.where(pixels == 255, 1, 0).astype(np.uint8), "L").convert("P")
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(path)


@pytest.mark.parametrize(("mode", "values"), [("RGBA", "object"), ("1", "object"), ("P", "object"), ("RGBA", "class")])
def test_masks_that_an_editor_saved(collection: Collection, mode: str, values: str, tmp_path: Path) -> None:
    masks = collection.create_mask_set("one", config_hash="1", provenance={})
    plain = np.zeros(SIZE, np.uint8)
    plain[4:12, 8:20] = 1
    for part in collection.part_names():
        ids = collection.read_part(part, ["image_id"]).column("image_id").to_pylist()
        masks.write_part(part, mask_table(mask_row(each, plain, [12]) for each in ids))
    words = ["masks", "export", collection.uri, "one", "--output", tmp_path / "one", "--values", values]
    assert command(*words) == 0
    for path in (tmp_path / "one").glob("*.png"):
        saved_as(mode, path)
    assert command("masks", "import", collection.uri, "--name", "back", "--from", tmp_path / "one") == 0
    assert_equal_pixels(collection, "one", "back")


def test_a_folder_without_tables_is_matched_by_name(collection: Collection, tmp_path: Path) -> None:
    folder = exported(collection, tmp_path / "png", "png")
    (folder / "masks.csv").unlink()
    (folder / "classes.csv").unlink()
    with pytest.raises(ValueError, match="give --values class"):
        import_masks(collection, "back", str(folder))
    assert import_masks(collection, "back", str(folder), values="class").is_complete
    assert_equal_pixels(collection, "made", "back")
    Image.fromarray(np.full(SIZE, 12, np.uint8)).save(folder / "other.png")
    report = import_masks(collection, "more", str(folder), values="class")
    assert (report.masks, report.unmatched) == (6, ["other.png"])


def test_saliency_pictures_of_other_programs_become_a_mask_set(collection: Collection, tmp_path: Path) -> None:
    """As MaskSplit's masks are published: grey PNGs by the photograph's name, some soft, some of three channels."""
    ramp = np.linspace(0, 255, SIZE[1]).astype(np.uint8)[None].repeat(SIZE[0], 0)
    binary = np.where(ramp > 127, 255, 0).astype(np.uint8)
    pictures = {"cups/1": Image.fromarray(ramp), "mugs/1": Image.fromarray(binary)}
    pictures |= {"a": Image.fromarray(binary).convert("RGB"), "mugs/deep/100%": Image.fromarray(binary * 0)}
    for name, picture in (pictures | {"2007_000032": pictures["a"]}).items():
        path = tmp_path / "saliency" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    with pytest.raises(ValueError, match="--values saliency for salient objects of any class"):
        import_masks(collection, "basnet", str(tmp_path / "saliency"))
    words = ["masks", "import", collection.uri, "--name", "basnet", "--from", tmp_path / "saliency"]
    assert command(*words, "--values", "saliency") == 3  # two photographs have no picture
    maps = {uri.rsplit("photos/", 1)[-1]: value for uri, value in class_maps(collection, "basnet").items()}
    for name in ("cups/1.png", "mugs/1.png", "a.png"):
        np.testing.assert_array_equal(next(v for k, v in maps.items() if k.endswith(name)), binary > 0, name)
    assert not np.any(next(v for k, v in maps.items() if k.endswith("100%.png")))
    assert sum("not-in-import" in v for v in maps.values() if isinstance(v, str)) == 2


def test_opacity_is_the_saliency_of_a_cut_out_and_colours_are_none(collection: Collection, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photograph, opacity = rng.integers(0, 256, (*SIZE, 3)), np.zeros((*SIZE, 1))
    opacity[4:12, 4:12] = 255
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.dstack([photograph, opacity]).astype(np.uint8)).save(masks / "a.png")
    Image.fromarray(photograph.astype(np.uint8)).save(masks / "leer.png")
    report = import_masks(collection, "back", str(masks), values="saliency")
    assert report.masks == 1 and report.problems[0].startswith("leer.png: colors: a saliency map is grey")
    pixels = next(each for uri, each in class_maps(collection, "back").items() if uri.endswith("/a.png"))
    np.testing.assert_array_equal(pixels, opacity[..., 0] > 0)


def test_new_classes_come_from_the_table(collection: Collection, tmp_path: Path) -> None:
    folder = exported(collection, tmp_path / "png", "png")
    path = next(folder.glob("a-*.png"))
    Image.fromarray(np.full(SIZE, 30, np.uint8)).save(path)
    report = import_masks(collection, "unknown", str(folder))
    assert report.masks == 5 and "unknown-class" in report.problems[0] and "a.png" in report.problems[0]
    with (folder / "classes.csv").open("a") as file:
        csv.writer(file).writerow([30, "bird"])
    assert import_masks(collection, "bird", str(folder)).new_classes == {30: "bird"}
    assert Collection.open(collection.uri).classes[30] == "bird"
    with (folder / "classes.csv").open("a") as file:
        csv.writer(file).writerow([31, "cat"])
    with pytest.raises(ValueError, match="'cat' is class 31 in the files, but class 7 in the collection"):
        import_masks(collection, "worse", str(folder))


def test_new_labels_become_classes_and_contradictions_are_refused(collection: Collection, tmp_path: Path) -> None:
    path = exported(collection, tmp_path / "coco", "coco") / "instances.json"

    def rename(old: str, new: str) -> Callable[[Any], None]:
        def change(content: Any) -> None:
            for category in content["categories"]:
                category["name"] = new if category["name"] == old else category["name"]
                category["id"] += 1  # another program numbers categories in its own way
            for row in content["annotations"]:
                row["category_id"] += 1

        return change

    edit_json(path, rename("cat", "bird"))
    report = import_masks(collection, "bird", str(path))
    assert report.new_classes == {8: "bird"} and report.is_complete
    edit_json(path, rename("bird", "Cat"))
    with pytest.raises(ValueError, match="spell both alike"):
        import_masks(collection, "worse", str(path))
    edit_json(path, rename("Cat", "class 12"))
    with pytest.raises(ValueError, match="'class 12' stands for class 12, which is 'dog"):
        import_masks(collection, "worse", str(path))
    assert "worse" not in collection.mask_set_names()


def test_labels_that_cannot_be_told_apart_are_not_exported(collection: Collection, tmp_path: Path, capsys: Any) -> None:
    for names, form, message in (
        ({7: "ignore"}, "coco", "the label of ignored pixels"),
        ({7: CLASSES[12]}, "cvat", "could not be told apart"),
        ({7: CLASSES[12]}, "labelstudio", "could not be told apart"),
    ):
        Path(collection.uri, "collection.json").write_text(
            json.dumps(
                {**collection.metadata, "classes": [{"id": k, "name": v} for k, v in {**CLASSES, **names}.items()]}
            )
        )
        assert command("masks", "export", collection.uri, "made", "--output", tmp_path, "--form", form) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_classes_without_names_stay_without(collection: Collection, form: str, tmp_path: Path) -> None:
    path = Path(collection.uri, "collection.json")
    path.write_text(json.dumps({**collection.metadata, "classes": []}))
    folder = exported(collection, tmp_path / form, form)
    report = import_masks(Collection.open(collection.uri), "back", str(folder))
    assert report.is_complete and not report.new_classes
    assert_equal_pixels(collection, "made", "back")


@pytest.mark.parametrize(
    ("labels", "classes", "expected", "added"),
    [
        ([("bird", 12), ("class 12", 7)], {}, [13, 12], {13: "bird"}),
        ([("bird", 1)], {}, [2], {2: "bird"}),
        ([("bird", 9), ("fish", 9)], {7: "cat"}, [9, 10], {9: "bird", 10: "fish"}),
        ([("cat", 1), ("cat", 7), ("ignore", 3)], {7: "cat"}, [7, 7, None], {}),
        ([("cat", 3), ("cat", 4)], {3: "cat", 4: "cat"}, [3, 4], {}),
        ([(" gro\u0308sse ", None)], {3: "gr\u00f6sse"}, [3], {}),
        ([("Background", 4), ("bird", 5), ("void", 6)], {}, [BACKGROUND, 5, None], {5: "bird"}),
        ([("background", 4), ("void", 6)], {4: "background", 5: "void"}, [4, 5], {}),
        ([("cat", None)], {3: "cat", 4: "cat"}, "could mean any of them", {}),
        ([("ignore", None)], {3: "ignore"}, "class 3 has that name", {}),
        ([("Bird", None), ("bird", None)], {}, "spell both alike", {}),
        ([("\ud800", None)], {}, "no valid Unicode", {}),
        ([(" ", None)], {}, "is empty", {}),
    ],
)
def test_labels_become_classes(
    labels: list[Label], classes: dict[int, str], expected: list[int | None] | str, added: dict[int, str]
) -> None:
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            resolve_labels(labels, classes, ignore="ignore")
        return
    class_ids, new = resolve_labels(labels, classes, ignore="ignore")
    assert ([class_ids[label] for label in labels], new) == (expected, added)


def coco_file(tmp_path: Path, annotations: list[Any], images: list[Any] | None = None) -> str:
    first = [{"id": 1, "file_name": "cups/1.png", "height": SIZE[0], "width": SIZE[1]}]
    content = {
        "images": first if images is None else images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "ignore"}, {"id": 3}, None],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return str(path)


SQUARE = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]], "iscrowd": 0}


@pytest.mark.parametrize(
    "faulty",
    [
        None,
        [],
        {"image_id": 1},
        {**SQUARE, "image_id": 99},
        {**SQUARE, "image_id": [1]},
        {**SQUARE, "category_id": 3},
        {**SQUARE, "category_id": 99},
        {**SQUARE, "category_id": {}},
        {**SQUARE, "segmentation": None},
        {**SQUARE, "segmentation": []},
        {**SQUARE, "segmentation": [[1, 2, 3, 4]]},
        {**SQUARE, "segmentation": [[1, 2, 3, 4, 5, float("nan")]]},
        {**SQUARE, "segmentation": [[1, 2, 3, 4, 5, float("inf")]]},
        {**SQUARE, "segmentation": [[1, 2, 3, 4, 5, None]]},
        {**SQUARE, "segmentation": [[1, 2, 3, 4, 5, "x"]]},
        {**SQUARE, "segmentation": [1, 2, 3, 4, 5, 6]},
        {**SQUARE, "segmentation": {"size": [20, 28], "counts": [1, 2]}},
        {**SQUARE, "segmentation": {"size": [28, 20], "counts": [560]}},
        {**SQUARE, "segmentation": {"counts": "abc"}},
        {**SQUARE, "segmentation": 7},
    ],
)
def test_a_faulty_object_is_counted_and_the_others_stay(
    collection: Collection, photos: Path, faulty: Any, tmp_path: Path
) -> None:
    report = import_masks(collection, "back", coco_file(tmp_path, [faulty, SQUARE]))
    assert (report.masks, len(report.problems), len(report.without_mask)) == (1, 1, 5)
    pixels = class_maps(collection, "back")[str(photos / "cups" / "1.png")]
    assert isinstance(pixels, np.ndarray)
    assert (pixels == 7).sum() == 64 and (pixels[4:12, 4:12] == 7).all(), "pixels whose centre is inside"


def test_a_photograph_without_any_good_object_gets_no_mask(collection: Collection, tmp_path: Path) -> None:
    report = import_masks(collection, "back", coco_file(tmp_path, [{**SQUARE, "segmentation": []}]))
    assert report.masks == 0
    errors = class_maps(collection, "back").values()
    assert sorted(str(error).split(":")[0] for error in errors) == ["bad-import"] + ["not-in-import"] * 5


def test_smaller_objects_and_ignored_pixels_cover_others(collection: Collection, photos: Path, tmp_path: Path) -> None:
    small = {**SQUARE, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]], "category_id": 2}
    huge = {**SQUARE, "segmentation": [[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]]}
    report = import_masks(collection, "back", coco_file(tmp_path, [small, huge]))
    assert not report.problems
    pixels = class_maps(collection, "back")[str(photos / "cups" / "1.png")]
    assert isinstance(pixels, np.ndarray)
    assert ((pixels == -1).sum(), (pixels == 7).sum()) == (4, 20 * 28 - 4)


def test_crowds_are_ignored_where_no_object_is(collection: Collection, photos: Path, tmp_path: Path) -> None:
    crowd = {**SQUARE, "segmentation": [[0, 0, 28, 0, 28, 20, 0, 20]], "iscrowd": 1}
    report = import_masks(collection, "back", coco_file(tmp_path, [SQUARE, crowd]))
    assert not report.problems and len(report.notes) == 1
    assert report.notes[0].startswith("1 of 2 objects are crowds (iscrowd 1), so their pixels are ignored")
    pixels = class_maps(collection, "back")[str(photos / "cups" / "1.png")]
    assert isinstance(pixels, np.ndarray)
    assert (pixels[4:12, 4:12] == 7).all() and ((pixels == 7).sum(), (pixels == -1).sum()) == (64, 20 * 28 - 64)
    with_text = import_masks(collection, "text", coco_file(tmp_path, [{**SQUARE, "iscrowd": "maybe"}]))
    assert with_text.masks == 0 and "bad-iscrowd" in with_text.problems[0]


def test_ids_of_a_coco_file_may_be_floats_or_text(collection: Collection, photos: Path, tmp_path: Path) -> None:
    images = [{"id": 1.0, "file_name": "cups/1.png"}]
    report = import_masks(collection, "back", coco_file(tmp_path, [{**SQUARE, "category_id": "1"}], images))
    assert report.masks == 1 and not report.problems
    pixels = class_maps(collection, "back")[str(photos / "cups" / "1.png")]
    assert isinstance(pixels, np.ndarray) and (pixels == 7).sum() == 64


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ({"height": str(SIZE[0]), "width": float(SIZE[1])}, None),
        ({"height": str(2 * SIZE[0]), "width": str(2 * SIZE[1])}, "size-mismatch: the file says (40, 56)"),
        ({"height": 2.0 * SIZE[0], "width": 2.0 * SIZE[1]}, "size-mismatch: the file says (40, 56)"),
        ({"height": SIZE[0]}, "bad-size: the file gives the height '20' and the width 'None'"),
        ({"height": "20 px", "width": SIZE[1]}, "bad-size: the file gives the height '20 px'"),
    ],
)
def test_sizes_in_any_spelling_are_compared(
    collection: Collection, photos: Path, size: dict[str, Any], problem: str | None, tmp_path: Path
) -> None:
    coco = coco_file(tmp_path, [SQUARE], [{"id": 1, "file_name": "cups/1.png", **size}])
    sides = " ".join(f'{name}="{value}"' for name, value in size.items())
    shapes = '<polygon label="cat" points="4,4;12,4;12,12;4,12" z_order="0.0"/>'
    (tmp_path / "a.xml").write_text(f'<annotations><image name="cups/1.png" {sides}>{shapes}</image></annotations>')
    for source in (coco, str(tmp_path / "a.xml")):
        report = import_masks(collection, "back", source, overwrite=True)
        assert report.masks == (problem is None) and not report.notes
        assert [one.partition(": ")[2].startswith(problem or "") for one in report.problems] == [True] * bool(problem)


def test_without_a_size_a_note_tells_that_outlines_may_not_fit(collection: Collection, tmp_path: Path) -> None:
    report = import_masks(collection, "back", coco_file(tmp_path, [SQUARE], [{"id": 1, "file_name": "cups/1.png"}]))
    assert report.masks == 1 and report.notes[0].startswith("the file gives the size of 0 of 1 photographs")


def test_photographs_without_objects_are_told(collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<annotations><image name="a.png" width="28" height="20"/></annotations>')
    report = import_masks(collection, "back", str(tmp_path / "a.xml"))
    assert report.masks == 1
    assert report.notes == ["1 of 1 photographs have no object in the file, so their masks are all background"]


def test_labels_called_background_are_no_class(collection: Collection, photos: Path, tmp_path: Path) -> None:
    shapes = '<polygon label="cat" points="0,0;28,0;28,20;0,20"/>' + "".join(
        f'<polygon label="{label}" points="{x},4;{x + 4},4;{x + 4},8;{x},8" z_order="1"/>'
        for label, x in (("background", 4), ("Void", 12))
    )
    (tmp_path / "a.xml").write_text(
        f'<annotations><image name="a.png" width="28" height="20">{shapes}</image></annotations>'
    )
    report = import_masks(collection, "back", str(tmp_path / "a.xml"))
    assert not report.new_classes and [note.split(";")[0] for note in report.notes] == [
        "the labels 'background' stand for no class, so their objects are background",
        "the labels 'Void' stand for ignored pixels",
    ]
    pixels = class_maps(collection, "back")[str(photos / "a.png")]
    assert isinstance(pixels, np.ndarray)
    assert (pixels[4:8, 4:8] == 0).all() and (pixels[4:8, 12:16] == -1).all() and (pixels == 7).sum() == 560 - 32


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("0,background\n7,cat\n255,void\n", None),
        ("0,cat\n", "calls the value 0 'cat', but 0 is background in masks; number the classes"),
        ("9,Background\n", "calls the value 9 'Background', but the value of background is 0"),
        ("9,ignore\n", "calls the value 9 'ignore', but the value of ignored pixels is 255"),
    ],
)
def test_a_table_of_classes_agrees_with_the_fixed_values(
    collection: Collection, table: str, message: str | None, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.full(SIZE, 7, np.uint8)).save(masks / "a.png")
    (masks / "classes.csv").write_text(f"id,name\n{table}")
    if message is None:
        report = import_masks(collection, "back", str(masks), values="class")
        assert report.masks == 1 and not report.new_classes
        return
    with pytest.raises(ValueError, match=message):
        import_masks(collection, "back", str(masks), values="class")


@pytest.mark.parametrize("key", ["to_name", "item_index"])
def test_regions_of_several_pictures_are_not_painted_on_one(collection: Collection, key: str, tmp_path: Path) -> None:
    points = {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["cat"]}
    size = {"original_width": SIZE[1], "original_height": SIZE[0]}
    regions = [{"type": "polygonlabels", "value": points, key: number, **size} for number in (0, 1)]
    choice = {"type": "choices", "value": {"choices": ["good"]}, key: 2}
    tasks = [
        {"data": {"image": "a.png"}, "annotations": [{"result": regions}]},
        {"data": {"image": "leer.png"}, "annotations": [{"result": [regions[0], choice]}]},
    ]
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    report = import_masks(collection, "back", str(tmp_path / "x.json"))
    assert report.masks == 1 and report.problems == [
        f"a.png: several-pictures: its regions belong to the {key} 0, 1, and it is unknown which is this one"
    ]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"id": 1, "file_name": "x/1.png"}], "none of the 1 masks"),
        ([{"id": 1}, None, 3, {"id": {}, "file_name": "a.png"}], "none of the 0 masks"),
        ([{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "leer.png"}], "none of the 0 masks"),
        ([{"id": 1, "file_name": "nowhere.jpg"}], "the files have nowhere.jpg, the collection has"),
        (
            [{"id": n, "file_name": "cups/1.png"} for n in (1, 2)],
            "fits one photograph alone: .*; name every photograph",
        ),
    ],
)
def test_nothing_that_matches_is_an_error(collection: Collection, images: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        import_masks(collection, "back", coco_file(tmp_path, [SQUARE], images))
    assert collection.mask_set_names() == ["made"], "nothing is written"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", '{"images": 1}', "no COCO JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", "[1]", "no list of Label Studio tasks"),
        ("a.json", "[]", "none of the 0 masks"),
        ("a.xml", "<annotations><image", "no valid XML"),
        ("a.xml", "<View><annotations/></View>", "instead of <annotations>"),
        ("a.xml", '<!DOCTYPE annotations [<!ENTITY a "b">]><annotations/>', "document type"),
        ("a.xml", "<annotations><track/></annotations>", "tracks of a video"),
        ("a.txt", "", "neither COCO JSON"),
        ("a.zip", "PK", "neither COCO JSON"),
    ],
)
def test_files_of_another_kind_are_refused(
    collection: Collection, name: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        import_masks(collection, "back", str(tmp_path / name))


def test_folders_with_nothing_or_several_files(collection: Collection, tmp_path: Path) -> None:
    folder = exported(collection, tmp_path / "both", "coco")
    exported(collection, folder, "cvat")
    with pytest.raises(ValueError, match=r"several annotation files: annotations.xml, instances.json"):
        import_masks(collection, "back", str(folder))
    assert import_masks(collection, "back", str(folder), form="cvat").is_complete
    with pytest.raises(ValueError, match="made with configuration"):
        import_masks(collection, "back", str(folder), form="coco")
    assert import_masks(collection, "back", str(folder), form="coco", overwrite=True).form == "coco"
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"has no masks|there is no folder"):
            import_masks(collection, "back", str(source))
    with pytest.raises(ValueError, match="belongs to the collection's source"):
        import_masks(collection, "truth", str(folder))


def test_label_studio_annotations_count_before_predictions(collection: Collection, tmp_path: Path) -> None:
    path = exported(collection, tmp_path / "ls", "labelstudio") / "tasks.json"

    def change(tasks: Any) -> None:
        points = {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["cat"]}
        size = {"original_width": SIZE[1], "original_height": SIZE[0]}
        polygon = {"type": "polygonlabels", "value": points, **size}
        old = {"result": [], "updated_at": "2024-01-01T00:00:00Z"}
        cancelled = {"result": [], "was_cancelled": True}
        tasks[0]["annotations"] = [{"result": [polygon], "updated_at": "2024-02-01T00:00:00Z"}, old, cancelled]
        tasks[0]["data"]["image"] = "/data/upload/3/0a1b2c3d-" + tasks[0]["data"]["image"].rpartition("/")[2]
        tasks[1]["annotations"] = [cancelled]
        tasks.append({"data": {"image": "http://[x/nowhere.png"}, "annotations": []})
        tasks.append({"data": {"image": 7}})
        tasks[2]["annotations"] = [{"result": [{**polygon, "type": "rectanglelabels", "value": {"x": 1}}, polygon, 7]}]
        tasks[3]["annotations"] = [{"result": [{**polygon, "original_width": 5}, {"type": "choices", "value": {}}]}]
        tasks[4]["annotations"], tasks[4]["predictions"] = [], [17]

    edit_json(path, change)
    report = import_masks(collection, "back", str(path))
    assert report.notes == ["nobody annotated 1 of 8 tasks; their predictions are imported"]
    assert (report.masks, len(report.without_mask), len(report.problems)) == (3, 2, 4), report
    assert report.unmatched == ["http://[x/nowhere.png"]
    maps = list(class_maps(collection, "back").values())
    assert isinstance(maps, list) and sum(isinstance(each, str) for each in maps) == 3
    assert sum(isinstance(each, np.ndarray) and (each == 7).sum() == 140 for each in maps) == 2


def test_cvat_shapes_by_z_order(collection: Collection, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "annotations.xml"
    shapes = (
        '<polygon label="cat" points="0,0;28,0;28,20;0,20" z_order="1"/>'
        '<mask label="größe" rle="0,6" left="0" top="0" width="3" height="2" z_order="2"/>'
        '<mask label="größe" rle="560" left="0" top="0" width="28" height="20" z_order="0"/>'
        '<mask label="größe" rle="1,x" left="0" top="0" width="3" height="2"/><box label="cat" xtl="1"/>'
        '<mask label="größe" rle="6" left="26" top="0" width="3" height="2"/><polygon label="cat" points="a,b"/>'
    )
    image = f'<image id="0" name="a.png" width="28" height="20">{shapes}</image>'
    wrong = '<image id="1" name="leer.png" width="27" height="20"><mask/></image>'
    path.write_text(f"<annotations>{image}{wrong}<image/></annotations>")
    report: ImportReport = import_masks(collection, "back", str(path))
    assert (report.masks, len(report.problems), report.unmatched) == (1, 5, [""]), report
    pixels = class_maps(collection, "back")[str(photos / "a.png")]
    assert isinstance(pixels, np.ndarray)
    assert ((pixels == 200).sum(), (pixels == 7).sum()) == (6, 554)


def test_the_command_lists_what_is_left_out(collection: Collection, tmp_path: Path, capsys: Any) -> None:
    source = coco_file(tmp_path, [{**SQUARE, "segmentation": []}, SQUARE])
    assert command("masks", "import", collection.uri, "--name", "back", "--from", source) == 3
    text = capsys.readouterr().out
    assert all(
        words in text for words in ("1 masks of 6 photographs", "5 photographs", "mugs/1.png", "no-segmentation")
    )


def test_unusable_photographs_and_masks_that_are_not_accepted(collection: Collection, tmp_path: Path) -> None:
    folder = exported(collection, tmp_path / "all", "cvat")
    part = collection.part_names()[0]
    rows = collection.read_part(part).to_pylist()
    broken = {"image": None, "height": None, "width": None, "format": None, "error": "truncated: half a file"}
    collection.write_part(part, image_table([{**rows[0], **broken}, *rows[1:]]))
    report = import_masks(collection, "back", str(folder))
    assert (report.photographs, report.masks, report.without_mask, len(report.unmatched)) == (5, 5, [], 1)
    assert str(next(iter(class_maps(collection, "back").values()))).startswith("no-image")
    accepted = [row["image_id"] for row in rows[1:3]]
    collection.mask_set("made").write_acceptance("two", {}, accepted)
    folder = exported(collection, tmp_path / "two", "coco", "--acceptance", "two")
    report = import_masks(collection, "some", str(folder))
    assert (report.masks, len(report.without_mask), report.is_complete) == (2, 3, False)


COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "ä.jpg"), unicodedata.normalize("NFD", "ä.jpg")


@pytest.mark.parametrize(
    ("photographs", "entries", "matched", "ambiguous"),
    [
        (["a/1.jpg", "b/1.jpg"], ["b/1.jpg", "/x/a/1.jpg"], {0: 1, 1: 0}, 0),
        (["a/1.jpg", "b/1.jpg"], ["1.jpg"], {}, 1),
        (["a/1.jpg", "b/2.jpg"], ["c/2.jpg"], {1: 0}, 0),
        (["a/1.jpg"], ["x/1.jpg", "y/1.jpg"], {}, 2),
        (["a/1.jpg"], ["x/1.jpg", "a/1.jpg"], {0: 1}, 0),
        (["a/1.jpg"], ["C:\\a\\1.jpg"], {0: 0}, 0),
        (["A.jpg", "a.jpg"], ["a.jpg", "A.jpg"], {0: 1, 1: 0}, 0),
        (["A.jpg", "a.jpg"], ["a.JPG"], {}, 1),
        (["Ab.jpg"], ["./aB.JPG"], {0: 0}, 0),
        ([f"x/{COMPOSED}", f"y/{DECOMPOSED}"], [f"x/{DECOMPOSED}", f"y/{COMPOSED}"], {0: 0, 1: 1}, 0),
        ([COMPOSED, DECOMPOSED], [DECOMPOSED], {1: 0}, 0),
        ([COMPOSED], [DECOMPOSED], {0: 0}, 0),
        ([], ["a"], {}, 0),
    ],
)
def test_names_are_matched(photographs: list[str], entries: list[str], matched: dict[int, int], ambiguous: int) -> None:
    rows = [Photograph(image_id=str(number), name=name) for number, name in enumerate(photographs)]
    matches = match_images(rows, [(None, name) for name in entries])
    assert matches.entries == {str(row): entry for row, entry in matched.items()}
    assert len(matches.ambiguous) == ambiguous
    assert len(matches.unmatched) == len(entries) - ambiguous - len(matched)


JUNK = [None, True, -1, 1.5, 1e308, float("nan"), 10**400, "", "x", "\ud800", [], {}, [[]], [None], {"a": 1}]


def changed(content: Any, rng: random.Random) -> Any:
    """Replace, remove or repeat a random value of a JSON document."""
    paths: list[list[Any]] = []

    def walk(value: Any, path: list[Any]) -> None:
        paths.append(path)
        children = value.items() if isinstance(value, dict) else enumerate(value[:9]) if isinstance(value, list) else ()
        for key, child in children:
            walk(child, [*path, key])

    walk(content, [])
    path = rng.choice(paths[1:])
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if rng.random() < 0.8:
        holder[path[-1]] = rng.choice(JUNK)
    elif isinstance(holder, list) and rng.random() < 0.5:
        holder.append(holder[path[-1]])
    else:
        del holder[path[-1]]
    return content


@pytest.mark.parametrize("form", ["coco", "labelstudio", "cvat"])
def test_a_changed_file_is_masks_and_reasons_or_refused(collection: Collection, form: Form, tmp_path: Path) -> None:
    path = exported(collection, tmp_path / form, form) / FILES[form]
    valid = path.read_bytes()
    ids = [Photograph(image_id=key, name="a.png") for keys in collection.image_ids().values() for key in keys]
    rng = random.Random(1)
    read = 0
    for number in range(150):
        if form != "cvat" and number % 3:
            path.write_text(json.dumps(changed(json.loads(valid), rng)))
        else:
            start = rng.randrange(len(valid))
            piece = rng.choice([b"9" * 400, b"-1", b"nan", b"&x;", b'"', b"{", b"\0", b"", b"<image>", b"encoding='x'"])
            path.write_bytes(valid[:start] + piece + valid[start + rng.randrange(9) :])
        try:
            images = READERS[form](str(path)).images
            matches = match_images(ids, [(image.image_id, image.name) for image in images])
            labels = {(shape.label, shape.category) for image in images for shape in image.shapes}
            class_ids, _ = resolve_labels(labels, CLASSES, ignore="ignore")
        except ValueError:
            continue
        read += bool(matches.entries)
        for image in images:
            with contextlib.suppress(DecodeError):
                paint(image, SIZE, class_ids)
    assert read > 20
