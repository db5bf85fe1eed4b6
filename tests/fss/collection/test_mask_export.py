"""Masks to PNGs and COCO, and names that lead nowhere else."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fss.collection import Collection
from fss.collection.annotations.base import class_labels
from fss.collection.annotations.coco import write_coco
from fss.collection.image_names import ImageRoot
from fss.collection.mask_export import contents, encode_png, iterate_masks, safe_name
from fss.images.mask_codec import decode_mask

ID = "0123456789abcdef-89abcdef"


def test_pngs_of_the_object_and_of_classes(collection: Collection) -> None:
    exported = list(iterate_masks(collection.mask_set("truth")))
    assert len(exported) == 6
    assert len({each.name for each in exported}) == 6
    mask = decode_mask(encode_png(exported[0], "object"))
    assert [mask[0, 0], mask[12, 0], mask[15, 0], mask[39, 0]] == [255, 255, 128, 0]
    with pytest.raises(ValueError, match="class 300 does not fit into 8 bits"):
        encode_png(exported[0], "class")


def test_only_accepted_masks(collection: Collection) -> None:
    one = collection.image_ids()["part-00001"][2]
    assert [each.image_id for each in iterate_masks(collection.mask_set("truth"), {one})] == [one]


def test_coco_holds_the_very_masks(collection: Collection) -> None:
    pycocotools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    out = io.BytesIO()
    masks = list(iterate_masks(collection.mask_set("truth")))
    labels = class_labels(contents(collection.mask_set("truth"))[1], collection.classes)
    assert write_coco(iter(masks), labels, ImageRoot(uri=""), out.write) == (6, 18)
    found = json.loads(out.getvalue())
    names = {7: "cat", 300: "dog", 65536: "ignore"}
    assert found["categories"] == [{"id": key, "name": name} for key, name in names.items()]
    assert {image["image_id"] for image in found["images"]} == {each.image_id for each in masks}
    for annotation in found["annotations"]:
        rle = pycocotools.frPyObjects(annotation["segmentation"], 40, 48)
        expected = masks[annotation["image_id"] - 1].mask == {7: 1, 300: 2, 65536: 255}[annotation["category_id"]]
        np.testing.assert_array_equal(pycocotools.decode(rle), expected)
        assert annotation["area"] == pycocotools.area(rle)
        assert annotation["bbox"] == pycocotools.toBbox(rle).tolist()


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/photos/my cat.jpg", "my_cat-89abcdef"),
        ("s3://b/../../etc/passwd", "passwd-89abcdef"),
        ("..", "89abcdef"),
        ("/a/.hidden", "hidden-89abcdef"),
        ("C:\\x\\..\\y.png", "C_x_y-89abcdef"),
        ("a\n\0b/" + "x" * 300, "x" * 80 + "-89abcdef"),
    ],
)
def test_names_of_files_lead_nowhere_else(uri: str, name: str) -> None:
    assert safe_name(uri, ID) == name


@given(st.text(max_size=60))
def test_no_uri_makes_a_path(uri: str) -> None:
    name = safe_name(uri, ID)
    assert name.replace("-", "").replace("_", "").isalnum()
    assert name.isascii()


@pytest.mark.parametrize("identity", ["../../../etc/passwd", "", "0123456789abcdef-89abcde/"])
def test_an_identity_that_is_none_is_refused(identity: str) -> None:
    with pytest.raises(ValueError, match="is not an image id"):
        safe_name("a.jpg", identity)
