"""VOC's layout, its lists, its void pixels, and what is said when something is missing."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from fss.collection.sources import SourceConfig, list_items, read_item
from fss.collection.sources.voc import VOC_CLASSES
from fss.images.limits import DecodeLimits
from fss.synthetic.picture import render_sample_image
from tests.helpers.dataset_layouts import ringed, write_grey, write_sbd, write_voc

LIMITS = DecodeLimits()


def _config(path, subset=""):
    return SourceConfig(kind="voc", path=str(path), subset=subset)


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_masks_come_back_class_by_class_with_void_rings(tmp_path, below):
    write_voc(tmp_path / below, count=3, val=[1])
    listing = list_items(_config(tmp_path))
    assert [item.relative_path.rsplit("/", 1)[1] for item in listing.items] == [f"2007_00000{i}.jpg" for i in range(3)]
    assert listing.labelled and listing.classes[1] == "aeroplane" and listing.classes[20] == "tvmonitor"
    for number, item in enumerate(listing.items):
        raw = read_item(item, _config(tmp_path), LIMITS)
        truth = ringed(render_sample_image(number, 0, "labelled").mask)
        assert raw.error is None and raw.mask_error is None
        back = np.array([0, *raw.label.class_ids, *[0] * (255 - len(raw.label.class_ids))])
        back[255] = 255
        np.testing.assert_array_equal(back[raw.label.mask], truth)


def test_subsets_follow_the_lists(tmp_path):
    names = write_voc(tmp_path, count=6, val=[0, 4])
    wanted = {"val": [0, 4], "train": [1, 2, 3, 5], "trainval": range(6), "trainaug": [1, 2, 3, 5], "all": range(6)}
    for subset, members in wanted.items():
        listing = list_items(_config(tmp_path, subset))
        assert [item.relative_path for item in listing.items] == [f"JPEGImages/{names[i]}.jpg" for i in members]
    (tmp_path / "ImageSets/Segmentation/trainval.txt").write_text("\n".join(names[1:5]))
    listing = list_items(_config(tmp_path, "trainval"))
    assert [item.relative_path for item in listing.items] == [f"JPEGImages/{name}.jpg" for name in names[1:5]]


@pytest.mark.parametrize("beside", [False, True])
def test_sbd_fills_in_for_pictures_without_a_mask_of_voc(tmp_path, beside):
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    names = write_voc(voc, count=6, val=[0, 4], augmented=False)
    for name in names[2:4]:
        (voc / "SegmentationClass" / f"{name}.png").unlink()
    write_sbd(tmp_path if beside else voc, names[1:])
    listing = list_items(_config(tmp_path, "trainaug"))
    assert [item.relative_path.rsplit("/", 1)[1][:-4] for item in listing.items] == [names[i] for i in (1, 2, 3, 5)]
    assert [item.mask_uri.endswith(".mat") for item in listing.items] == [False, True, True, False]
    assert "the standard download has 10582 (SegmentationClassAug, trainaug)" in listing.notes[0]
    raw = read_item(listing.items[1], _config(tmp_path), LIMITS)
    back = np.array([0, *raw.label.class_ids])
    np.testing.assert_array_equal(back[raw.label.mask], render_sample_image(2, 0, "labelled").mask)
    mat = tmp_path / "broken.mat"
    mat.write_bytes(b"MATLAB 5.0 MAT-file, broken")
    broken = read_item(replace(listing.items[1], mask_uri=str(mat)), _config(tmp_path), LIMITS)
    assert broken.mask_error.startswith("bad-annotation: no GTcls.Segmentation of SBD")


def test_counts_that_differ_from_the_download_are_noted(tmp_path):
    write_voc(tmp_path, count=2, val=[0], augmented=False)
    (tmp_path / "JPEGImages" / "2008_000001.jpg").write_bytes(b"no mask")
    listing = list_items(_config(tmp_path, "val"))
    assert listing.ignored == {"photographs without a mask": 2}
    assert "1 photographs with a mask; the standard download has 1449" in listing.notes[0]
    assert "SegmentationClassAug" in listing.notes[1]


def test_what_is_missing_is_named_with_its_place(tmp_path):
    write_voc(tmp_path, count=2, val=[0], augmented=False)
    with pytest.raises(ValueError, match="trainaug needs the folder SegmentationClassAug"):
        list_items(_config(tmp_path, "trainaug"))
    with pytest.raises(ValueError, match="all, train, val, trainval, trainaug; got 'test'"):
        list_items(_config(tmp_path, "test"))
    shutil.rmtree(tmp_path / "ImageSets")
    with pytest.raises(ValueError, match=r"ImageSets/Segmentation/val.txt.*VOCtrainval"):
        list_items(_config(tmp_path, "val"))
    shutil.rmtree(tmp_path / "SegmentationClass")
    with pytest.raises(ValueError, match="neither SegmentationClassAug nor SegmentationClass"):
        list_items(_config(tmp_path))
    shutil.rmtree(tmp_path / "JPEGImages")
    with pytest.raises(ValueError, match=r"JPEGImages.*host\.robots"):
        list_items(_config(tmp_path))


def test_a_value_that_is_no_class_of_voc_is_an_error_of_that_mask(tmp_path):
    write_voc(tmp_path, count=1)
    write_grey(tmp_path / "SegmentationClassAug" / "2007_000000.png", np.full((170, 180), len(VOC_CLASSES) + 1))
    (item,) = list_items(_config(tmp_path)).items
    assert read_item(item, _config(tmp_path), LIMITS).mask_error.startswith("unknown-class: ")


def test_listed_names_without_a_photograph_are_counted(tmp_path):
    write_voc(tmp_path, count=3, val=[0, 1])
    (tmp_path / "JPEGImages" / "2007_000001.jpg").unlink()
    listing = list_items(_config(tmp_path, "val"))
    assert len(listing.items) == 1
    assert listing.ignored["masks without a photograph in JPEGImages"] == 1


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("\ufeff2007_000000\n2007_000002\n", [0, 2]),
        ("2007_000000\r\n\r\n2007_000002\r\n", [0, 2]),
        ("2007_000000  1\n2007_000001 -1\n2007_000002  0\n", [0, 2]),
        ("2007_000000.jpg\nJPEGImages/2007_000002.jpg\n", [0, 2]),
        ("/JPEGImages/2007_000000.jpg /SegmentationClassAug/2007_000000.png\nJPEGImages\\2007_000002.jpg\n", [0, 2]),
    ],
)
def test_lists_as_tools_write_them(tmp_path, text, members):
    names = write_voc(tmp_path, count=3)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(text.encode())
    listing = list_items(_config(tmp_path, "val"))
    assert [item.relative_path for item in listing.items] == [f"JPEGImages/{names[i]}.jpg" for i in members]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"a.jpg\nb.jpg\n",
            r"val.txt names no photograph: it has a.jpg, b.jpg, the folder has 2007_000000, 2007_000001; ",
        ),
        (b"\xff\xfe2\x000\x00", "val.txt is no list of names: it is no UTF-8 text"),
    ],
)
def test_a_list_of_other_names_is_refused(tmp_path, content, message):
    write_voc(tmp_path, count=2)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list_items(_config(tmp_path, "val"))
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("other\n")
    for subset in ("trainaug", "trainval"):  # the photographs of the other list are there
        assert len(list_items(_config(tmp_path, subset)).items) == 2


def test_files_of_one_name_give_a_reason_and_spellings_of_one_name_pair(tmp_path):
    names = write_voc(tmp_path, count=4, augmented=False)
    images, masks = tmp_path / "JPEGImages", tmp_path / "SegmentationClass"
    shutil.copy(masks / f"{names[0]}.png", masks / f"{names[0]}.gif")
    shutil.copy(images / f"{names[1]}.jpg", images / f"{names[1]}.jpeg")
    (masks / f"{names[2]}.json").write_text("{}")  # no mask
    (images / f"{names[3]}.jpg").rename(images / "caf\u00e9.jpg")
    (masks / f"{names[3]}.png").rename(masks / "cafe\u0301.png")
    items = list_items(_config(tmp_path)).items
    errors = [read_item(item, _config(tmp_path), LIMITS).mask_error for item in items]
    assert [str(error)[:12] for error in errors] == ["several-mask", "shared-mask:", "shared-mask:", "None", "None"]
