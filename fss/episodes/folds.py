"""Which classes a benchmark trains on and which it tests.

PASCAL-5i: Shaban et al., "One-Shot Learning for Semantic Segmentation", BMVC 2017. COCO-20i: Nguyen and Todorovic,
"Feature Weighting and Boosting for Few-Shot Segmentation", ICCV 2019. FSS-1000: Li et al., CVPR 2020. Testing
COCO-20i's folds on PASCAL: Boudiaf et al., "Few-Shot Segmentation Without Meta-Learning", CVPR 2021.

Class ids are those of the collections: VOC 1 to 20 and COCO 1 to 80 in their usual orders.
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
"""COCO's name of each VOC class, where the names differ."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A division of a benchmark's classes."""

    benchmark: Benchmark
    """Which benchmark."""
    number: int | None
    """Fold 0 to 3; None for FSS-1000, which has one division."""
    train: tuple[int, ...]
    """Class ids to train on (of COCO for coco-to-pascal)."""
    test: tuple[int, ...]
    """Class ids to test on (of VOC for coco-to-pascal)."""
    val: tuple[int, ...] = ()
    """Class ids to validate on; FSS-1000 alone has some."""


def pascal_fold(number: int) -> Fold:
    """Return fold ``number`` of PASCAL-5i: it tests classes 5f + 1 to 5f + 5."""
    _check(number)
    test = range(5 * number + 1, 5 * number + 6)
    return Fold(benchmark="pascal", number=number, train=_others(20, test), test=tuple(test))


def coco_fold(number: int, order: Order = "interleaved") -> Fold:
    """Return fold ``number`` of COCO-20i.

    ``interleaved`` (the usual one) tests classes f + 1, f + 5, ...; ``consecutive`` tests 20f + 1 to 20f + 20.
    """
    _check(number)
    if order not in ("interleaved", "consecutive"):
        raise ValueError(f"the order of COCO-20i's classes is interleaved or consecutive, got {order!r}")
    test = range(number + 1, 81, FOLDS) if order == "interleaved" else range(20 * number + 1, 20 * number + 21)
    return Fold(benchmark="coco", number=number, train=_others(80, test), test=tuple(test))


def coco_to_pascal_fold(number: int, order: Order = "interleaved") -> Fold:
    """Return the VOC classes that a model of COCO-20i's fold ``number`` has not been trained on."""
    coco = coco_fold(number, order)
    coco_id = {name: class_id for class_id, name in enumerate(COCO_CLASSES, start=1)}
    test = [
        class_id
        for class_id, name in enumerate(VOC_CLASSES, start=1)
        if coco_id[COCO_NAME_OF_VOC.get(name, name)] in coco.test
    ]
    return Fold(benchmark="coco-to-pascal", number=number, train=coco.train, test=tuple(test))


def fss_fold(classes: Mapping[int, str], class_splits: Mapping[str, list[int]]) -> Fold:
    """Return the division of a collection in FSS-1000's layout.

    The collection's own splits (train, val, test) where it has them; otherwise 52, 24 and 24 percent of the classes,
    which is 520, 240 and 240 of a thousand, in an order drawn once and for all from the class names. The derived
    division is not the published one.

    Raises:
        ValueError: fewer than three classes, or splits without ``test``.
    """
    if class_splits:
        if not class_splits.get("test"):
            raise ValueError(f"the collection's class splits are {', '.join(class_splits)}; one must be called test")
        train, val, test = (tuple(class_splits.get(split, ())) for split in ("train", "val", "test"))
        return Fold(benchmark="fss", number=None, train=train, val=val, test=test)
    if len(classes) < 3:
        raise ValueError(f"a division into train, val and test needs at least 3 classes, got {len(classes)}")
    by_name = sorted(classes, key=lambda class_id: classes[class_id])
    order = [by_name[place] for place in keyed_rng(0, purpose="folds.fss").permutation(len(by_name))]
    held = max(1, round(0.24 * len(order)))
    val_ids, test_ids, train_ids = order[:held], order[held : 2 * held], order[2 * held :]
    return Fold(
        benchmark="fss",
        number=None,
        train=tuple(sorted(train_ids)),
        val=tuple(sorted(val_ids)),
        test=tuple(sorted(test_ids)),
    )


def _check(number: int) -> None:
    if number not in range(FOLDS):
        raise ValueError(f"there are folds 0 to {FOLDS - 1}, got {number}")


def _others(count: int, test: range) -> tuple[int, ...]:
    return tuple(class_id for class_id in range(1, count + 1) if class_id not in test)
