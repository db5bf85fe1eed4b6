"""The benchmarks' class divisions, against the tables of the papers."""

import pytest

from fss.collection.sources.coco import COCO_CLASSES
from fss.collection.sources.voc import VOC_CLASSES
from fss.episodes.folds import coco_fold, coco_to_pascal_fold, fss_fold, pascal_fold

PASCAL = {
    0: "aeroplane bicycle bird boat bottle",
    1: "bus car cat chair cow",
    2: "diningtable dog horse motorbike person",
    3: "pottedplant sheep sofa train tvmonitor",
}
COCO_TO_PASCAL = {
    0: "aeroplane boat chair diningtable dog person",
    1: "bicycle bus horse sofa",
    2: "bird car pottedplant sheep train tvmonitor",
    3: "bottle cat cow motorbike",
}


@pytest.mark.parametrize("number", range(4))
def test_pascal_folds_test_five_classes_in_voc_order(number):
    fold = pascal_fold(number)
    assert " ".join(VOC_CLASSES[c - 1] for c in fold.test) == PASCAL[number]
    assert sorted(fold.train + fold.test) == list(range(1, 21))


def test_coco_folds_interleave_or_follow():
    assert coco_fold(0).test[:3] == (1, 5, 9)
    assert coco_fold(3).test[-1] == 80
    assert coco_fold(1, "consecutive").test == tuple(range(21, 41))
    for order in ("interleaved", "consecutive"):
        folds = [coco_fold(number, order) for number in range(4)]
        assert sorted(c for fold in folds for c in fold.test) == list(range(1, 81))
        assert all(len(fold.test) == 20 and not set(fold.test) & set(fold.train) for fold in folds)
    assert COCO_CLASSES[coco_fold(0).test[1] - 1] == "airplane"


@pytest.mark.parametrize("number", range(4))
def test_coco_models_are_tested_on_the_voc_classes_they_never_saw(number):
    fold = coco_to_pascal_fold(number)
    assert " ".join(VOC_CLASSES[c - 1] for c in fold.test) == COCO_TO_PASCAL[number]


def test_a_thousand_classes_divide_into_520_240_240():
    classes = {number: f"class{number:04d}" for number in range(1, 1001)}
    fold = fss_fold(classes, {})
    assert (len(fold.train), len(fold.val), len(fold.test)) == (520, 240, 240)
    assert set(fold.train) | set(fold.val) | set(fold.test) == set(classes)
    assert fold == fss_fold(dict(reversed(classes.items())), {})
    # it depends on the names alone: other ids for the same names move with them
    moved = fss_fold({number + 5000: name for number, name in classes.items()}, {})
    assert [c - 5000 for c in moved.test] == list(fold.test)


def test_the_splits_of_a_collection_come_first():
    classes = {1: "a", 2: "b", 3: "c"}
    fold = fss_fold(classes, {"train": [2], "test": [3, 1]})
    assert (fold.train, fold.val, fold.test) == ((2,), (), (3, 1))
    with pytest.raises(ValueError, match="name one of them test"):
        fss_fold(classes, {"base": [1]})


def test_wrong_requests_say_what_is_allowed():
    with pytest.raises(ValueError, match="the fold must be 0 to 3, got 4"):
        pascal_fold(4)
    with pytest.raises(ValueError, match="interleaved or consecutive"):
        coco_fold(0, "random")
    with pytest.raises(ValueError, match="at least 3 classes"):
        fss_fold({1: "a"}, {})
