"""Cityscapes' layout: label ids and train ids give the same classes, everything else is void."""

from dataclasses import replace

import numpy as np
import pytest

from fss.collection.sources import SourceConfig, list_items, read_item
from fss.collection.sources.cityscapes import TRAIN_ID_OF_LABEL
from fss.images.limits import DecodeLimits
from fss.synthetic.picture import render_sample_image
from tests.helpers.dataset_layouts import write_cityscapes, write_grey

LIMITS = DecodeLimits()


def _config(path, subset=""):
    return SourceConfig(kind="cityscapes", path=str(path), subset=subset)


def _class_map(raw):
    table = np.full(256, 255)
    table[1 : 1 + len(raw.label.class_ids)] = raw.label.class_ids
    return table[raw.label.mask]


@pytest.mark.parametrize("train_ids", [True, False])
def test_both_kinds_of_labels_give_train_ids(tmp_path, train_ids):
    write_cityscapes(tmp_path, "train", "aachen", count=2, train_ids=train_ids)
    listing = list_items(_config(tmp_path))
    assert listing.classes[0] == "road" and listing.classes[18] == "bicycle" and len(listing.classes) == 19
    for number, item in enumerate(listing.items):
        raw = read_item(item, _config(tmp_path), LIMITS)
        truth = render_sample_image(number, 0, "labelled").mask.astype(int)
        truth[0, 0] = 255
        assert raw.mask_error is None
        np.testing.assert_array_equal(_class_map(raw), truth)


def test_the_label_table_has_known_entries():
    assert TRAIN_ID_OF_LABEL[7] == 0 and TRAIN_ID_OF_LABEL[26] == 13 and TRAIN_ID_OF_LABEL[33] == 18
    assert 29 not in TRAIN_ID_OF_LABEL and len(TRAIN_ID_OF_LABEL) == 19


def test_subsets_and_counts(tmp_path):
    write_cityscapes(tmp_path, "train", "aachen", count=2, train_ids=False)
    write_cityscapes(tmp_path, "val", "ulm", count=1, train_ids=False)
    (only,) = list_items(_config(tmp_path, "val")).items
    assert only.relative_path == "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"
    listing = list_items(_config(tmp_path))
    assert len(listing.items) == 3
    assert listing.notes == ("3 photographs; the download has 3475",)
    with pytest.raises(ValueError, match="test has no public masks"):
        list_items(_config(tmp_path, "test"))


def test_what_is_missing_is_named_with_its_place(tmp_path):
    name, other = write_cityscapes(tmp_path, "train", "aachen", count=2, train_ids=False)
    mask = tmp_path / "gtFine" / "train" / "aachen" / f"{name}_gtFine_labelIds.png"
    write_grey(mask.with_name("other_gtFine_color.png"), np.zeros((4, 4)))
    mask.unlink()
    listing = list_items(_config(tmp_path))
    assert "1 photographs have neither" in listing.notes[1]
    assert read_item(listing.items[0], _config(tmp_path), LIMITS).mask_error.startswith("missing-mask")
    mask.with_name(f"{other}_gtFine_labelIds.png").unlink()
    with pytest.raises(ValueError, match=r"neither \*_gtFine_labelTrainIds\.png nor .*_color\.png, are not read"):
        list_items(_config(tmp_path))
    with pytest.raises(ValueError, match=r"no folder leftImg8bit.*cityscapes-dataset\.com"):
        list_items(_config(tmp_path / "gtFine"))


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        (
            "labelTrainIds",
            [7, 8, 26],
            "label-ids: the value 26 is a label id, but *_gtFine_labelTrainIds.png should hold",
        ),
        ("labelTrainIds", [0, 33, 255], "label-ids: the value 33"),
        ("labelTrainIds", [7, 8, 11], None),  # road, sidewalk, building? or traffic sign, vegetation, person
        ("labelTrainIds", [0, 18, 255], None),
        ("labelTrainIds", [0, 34], "unknown-class: the values 34 stand for no class"),
        ("labelIds", [0, 8, 255], "train-ids: the values 0 to 18 with 255 are train ids"),
        ("labelIds", [0, 8, 26, 255], None),  # a licence plate
        ("labelIds", [0, 8, 11], None),
        ("labelIds", [7, 200], "unknown-class: the values 200"),
    ],
)
def test_values_prove_the_kind_of_ids(tmp_path, kind, values, reason):
    write_cityscapes(tmp_path, "train", "aachen", count=1, train_ids=kind == "labelTrainIds")
    path = tmp_path / f"gtFine/train/aachen/aachen_000000_000019_gtFine_{kind}.png"
    write_grey(path, np.repeat(np.array(values), 60)[:, None].repeat(200, axis=1))
    (item,) = list_items(_config(tmp_path)).items
    proof = reason is not None and not reason.startswith("unknown")
    assert (item.mask_error is not None) == proof
    for one in (item, replace(item, mask_error=None)):  # also where the listing did not open the mask
        error = read_item(one, _config(tmp_path), LIMITS).mask_error
        assert error is None if reason is None else error.startswith(reason)


def test_masks_that_prove_nothing_share_the_reason_of_those_that_do(tmp_path):
    write_cityscapes(tmp_path, "train", "aachen", count=3, train_ids=True)
    names = [f"aachen/aachen_{number:06d}_000019_gtFine_labelTrainIds.png" for number in range(2)]
    write_grey(tmp_path / "gtFine/train" / names[0], np.full((60, 60), 7))  # road, or traffic sign
    write_grey(tmp_path / "gtFine/train" / names[1], np.full((60, 60), 26))  # a car
    errors = [item.mask_error for item in list_items(_config(tmp_path)).items]
    assert all("(seen in aachen_000001_000019_gtFine_labelTrainIds.png)" in str(error) for error in errors)
