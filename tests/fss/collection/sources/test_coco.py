"""COCO's two layouts give the same masks; overlaps, crowds and gaps in the category ids are handled."""

import json
import sys

import numpy as np
import pytest

from fss.collection.sources import SourceConfig, list_items, read_item
from fss.collection.sources.coco import CATEGORY_IDS, COCO_CLASSES, render
from fss.images.limits import DecodeLimits
from fss.synthetic.picture import render_sample_image
from tests.helpers.dataset_layouts import write_bytes, write_coco, write_grey

LIMITS = DecodeLimits()


def _config(path, subset="all"):
    return SourceConfig(kind="coco", path=str(path), subset=subset)


def _class_map(raw):
    table = np.array([0, *raw.label.class_ids, *[0] * (255 - len(raw.label.class_ids))])
    table[255] = 255
    return table[raw.label.mask]


def _square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


@pytest.mark.parametrize("rendered", [True, False])
def test_both_layouts_give_the_painted_masks(tmp_path, rendered):
    write_coco(tmp_path, "train2014", count=2, rendered=rendered)
    write_coco(tmp_path, "val2014", count=1, rendered=rendered, seed=4)
    listing = list_items(_config(tmp_path))
    assert [item.relative_path.split("/")[0] for item in listing.items] == ["train2014", "train2014", "val2014"]
    assert len(listing.classes) == 80 and listing.classes[80] == "toothbrush"
    for item, (number, seed) in zip(listing.items, [(0, 0), (1, 0), (0, 4)], strict=True):
        raw = read_item(item, _config(tmp_path), LIMITS)
        assert raw.mask_error is None
        np.testing.assert_array_equal(_class_map(raw), render_sample_image(number, seed, "labelled").mask)


def test_categories_are_counted_without_their_gaps():
    assert len(COCO_CLASSES) == len(CATEGORY_IDS) == 80
    assert (CATEGORY_IDS[0], CATEGORY_IDS[11], CATEGORY_IDS[79]) == (1, 13, 90)
    assert (COCO_CLASSES[11], COCO_CLASSES[62], COCO_CLASSES[61]) == ("stop sign", "tv", "toilet")


def test_small_objects_lie_over_large_ones_and_crowds_below_all():
    crowd = {"counts": [0, 8 * 20, 400 - 8 * 20], "size": [20, 20]}  # the first 8 columns
    objects = [[7, 0, _square(2, 2, 4)], [3, 0, _square(0, 0, 12)], [5, 1, crowd]]
    painted = render({"height": 20, "width": 20, "objects": objects})
    assert painted[3, 3] == 7
    assert painted[8, 3] == 3 and painted[8, 10] == 3
    assert painted[15, 3] == 255 and painted[15, 12] == 0


def test_a_photograph_without_objects_is_all_background(tmp_path):
    assert (render({"height": 4, "width": 5, "objects": []}) == np.zeros((4, 5))).all()


def test_a_broken_annotation_is_an_error_of_its_photograph(tmp_path):
    write_coco(tmp_path, "val2014", count=2, rendered=False)
    place = tmp_path / "annotations" / "instances_val2014.json"
    content = json.loads(place.read_text())
    content["annotations"][0]["segmentation"] = {"size": [3, 3]}
    place.write_text(json.dumps(content))
    first, second = list_items(_config(tmp_path, "val2014")).items
    assert read_item(first, _config(tmp_path), LIMITS).mask_error.startswith("bad-annotation: ")
    assert read_item(second, _config(tmp_path), LIMITS).mask_error is None


def test_what_is_missing_is_named_with_its_place(tmp_path):
    write_coco(tmp_path, "val2014", count=1, rendered=False)
    with pytest.raises(ValueError, match=r"no photographs train2014.*cocodataset"):
        list_items(_config(tmp_path))
    with pytest.raises(ValueError, match="train2014, val2014; got 'val2017'"):
        list_items(_config(tmp_path, "val2017"))
    (tmp_path / "annotations" / "instances_val2014.json").unlink()
    with pytest.raises(ValueError, match=r"annotations_trainval2014\.zip"):
        list_items(_config(tmp_path, "val2014"))
    write_bytes(tmp_path / "annotations" / "instances_val2014.json", b'{"images": []}')
    with pytest.raises(ValueError, match="no instance annotation file"):
        list_items(_config(tmp_path, "val2014"))


def test_counts_are_noted_and_missing_masks_told(tmp_path):
    names = write_coco(tmp_path, "val2014", count=2, rendered=True)
    (tmp_path / "annotations" / "val2014" / f"{names[1]}.png").unlink()
    listing = list_items(_config(tmp_path, "val2014"))
    assert listing.notes == ("2 photographs in val2014; the standard download has 40504",)
    assert read_item(listing.items[1], _config(tmp_path), LIMITS).mask_error.startswith("missing-mask")


def test_a_category_beyond_80_is_an_error_of_that_mask(tmp_path):
    (name,) = write_coco(tmp_path, "val2014", count=1, rendered=True)
    write_grey(tmp_path / "annotations" / "val2014" / f"{name}.png", np.full((20, 20), 90))
    (item,) = list_items(_config(tmp_path, "val2014")).items
    assert read_item(item, _config(tmp_path), LIMITS).mask_error.startswith("unknown-class")


def test_without_pycocotools_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_coco(tmp_path, "val2014", count=1, rendered=False)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ValueError, match="pip install pycocotools"):
        list_items(_config(tmp_path, "val2014"))
