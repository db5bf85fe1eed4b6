"""Training and test classes of the benchmarks.

PASCAL-5i: Shaban et al., "One-Shot Learning for Semantic Segmentation", BMVC 2017. COCO-20i: Nguyen and Todorovic,
"Feature Weighting and Boosting for Few-Shot Segmentation", ICCV 2019. FSS-1000: Li et al., CVPR 2020. Testing
COCO-20i's folds on PASCAL: Boudiaf et al., "Few-Shot Segmentation Without Meta-Learning", CVPR 2021.

Class ids are those of the collections: 1 to 20 for VOC and 1 to 80 for COCO in their usual orders.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fss.collection.sources.coco import COCO_CLASSES
from fss.collection.sources.voc import VOC_CLASSES
from fss.core.rng import keyed_rng
from fss.episodes.config import Benchmark, Order

BENCHMARKS: tuple[Benchmark, ...] = ("pascal", "coco", "coco-to-pascal", "fss")
FOLDS = 4

COCO_NAME_OF_VOC: dict[str, str] = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""COCO names of the VOC classes that are named differently."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One division of the classes of a benchmark."""

    benchmark: Benchmark
    """Name of the benchmark."""
    number: int | None
    """Fold 0 to 3; None for FSS-1000, which has one division."""
    train: tuple[int, ...]
    """Class ids to train on (of COCO for coco-to-pascal)."""
    test: tuple[int, ...]
    """Class ids to test on (of VOC for coco-to-pascal)."""
    val: tuple[int, ...] = ()
    """Class ids to validate on; empty except for FSS-1000."""


def pascal_fold(number: int) -> Fold:
    """Return fold ``number`` of PASCAL-5i: its test classes are 5f + 1 to 5f + 5."""
    _check(number)
    test = range(5 * number + 1, 5 * number + 6)
    return Fold(benchmark="pascal", number=number, train=_others(20, test), test=tuple(test))


def coco_fold(number: int, order: Order = "interleaved") -> Fold:
    """Return fold ``number`` of COCO-20i.

    The test classes are f + 1, f + 5, ... in the usual ``interleaved`` order, and 20f + 1 to 20f + 20 in the
    ``consecutive`` order.
    """
    _check(number)
    if order not in ("interleaved", "consecutive"):
        raise ValueError(f"unknown class order {order!r} of COCO-20i; choose interleaved or consecutive")
    test = range(number + 1, 81, FOLDS) if order == "interleaved" else range(20 * number + 1, 20 * number + 21)
    return Fold(benchmark="coco", number=number, train=_others(80, test), test=tuple(test))


def coco_to_pascal_fold(number: int, order: Order = "interleaved") -> Fold:
    """Return a fold whose test classes are the VOC classes that fold ``number`` of COCO-20i does not train on."""
    coco = coco_fold(number, order)
    coco_id = {name: class_id for class_id, name in enumerate(COCO_CLASSES, start=1)}
    test = [
        class_id
        for class_id, name in enumerate(VOC_CLASSES, start=1)
        if coco_id[COCO_NAME_OF_VOC.get(name, name)] in coco.test
    ]
    return Fold(benchmark="coco-to-pascal", number=number, train=coco.train, test=tuple(test))


def fss_fold(classes: Mapping[int, str], class_splits: Mapping[str, list[int]]) -> Fold:
    """Return the division of a collection in the layout of FSS-1000.

    It uses the splits (train, val, test) of the collection if there are any. Otherwise it takes 52, 24 and 24 percent
    of the classes, which is 520, 240 and 240 of 1,000, in a fixed pseudo-random order of the class names. That division
    differs from the published one.

    Raises:
        ValueError: there are fewer than three classes, or the splits lack ``test``.
    """
    if class_splits:
        if not class_splits.get("test"):
            raise ValueError(f"the class splits of the collection are {', '.join(class_splits)}; name one of them test")
        train, val, test = (tuple(class_splits.get(split, ())) for split in ("train", "val", "test"))
        return Fold(benchmark="fss", number=None, train=train, val=val, test=test)
    if len(classes) < 3:
        raise ValueError(f"a division into train, val and test needs at least 3 classes, got {len(classes)}")
    by_name = sorted(classes, key=lambda class_id: classes[class_id])
    order = [by_name[position] for position in keyed_rng(0, purpose="folds.fss").permutation(len(by_name))]
    held_out = max(1, round(0.24 * len(order)))
    val_ids, test_ids, train_ids = order[:held_out], order[held_out : 2 * held_out], order[2 * held_out :]
    return Fold(
        benchmark="fss",
        number=None,
        train=tuple(sorted(train_ids)),
        val=tuple(sorted(val_ids)),
        test=tuple(sorted(test_ids)),
    )


def _check(number: int) -> None:
    if number not in range(FOLDS):
        raise ValueError(f"the fold must be 0 to {FOLDS - 1}, got {number}")


def _others(count: int, test: range) -> tuple[int, ...]:
    return tuple(class_id for class_id in range(1, count + 1) if class_id not in test)
