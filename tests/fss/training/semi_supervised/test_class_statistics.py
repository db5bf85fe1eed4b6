"""Class shares, and the weights and confidences that follow from them."""

from pathlib import Path

import pytest

from fss.collection.class_map import ClassTable
from fss.training.semi_supervised.class_statistics import ClassStatistics, mask_shares, truth_shares
from fss.training.semi_supervised.config import LabelledConfig
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import scan_rows
from tests.helpers import scenes


def test_shares_are_counted_without_the_pool(tmp_path: Path) -> None:
    collection = scenes.build(tmp_path / "c", 8, 2)
    scenes.write_masks(collection, "stage-1")
    table, truth = ClassTable(collection.classes), collection.mask_set("truth")
    shares = truth_shares(SemanticReader(collection, table), scan_rows(truth, LabelledConfig()), truth)
    pixels = [scenes.scene(number)[1] for number in range(8)]
    assert shares == pytest.approx([sum((p == c).sum() for p in pixels[:2]) / (2 * 40 * 56) for c in range(3)])
    masks = mask_shares(collection.mask_set("stage-1"), table, shares)
    assert masks == pytest.approx([sum((p == c).sum() for p in pixels) / (8 * 40 * 56) for c in range(3)])


def test_weights_are_powers_of_the_frequency() -> None:
    statistics = ClassStatistics(truth=(0.64, 0.36, 0.0))
    assert statistics.class_weights(0) is None
    weights = statistics.class_weights(0.5)
    assert weights is not None and weights.tolist() == pytest.approx([1 / 0.8, 1 / 0.6, 1])


def test_classes_that_the_masks_miss_count_from_a_lower_probability() -> None:
    statistics = ClassStatistics(truth=(0.5, 0.4, 0.1), masks=(0.75, 0.2, 0.05))
    # Half as often in the masks: 0.5 / (2 - 0.5) of the confidence, as in FlexMatch.
    assert statistics.confidences(0.9).tolist() == pytest.approx([0.9, 0.3, 0.3])
