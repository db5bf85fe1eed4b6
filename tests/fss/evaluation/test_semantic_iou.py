"""Dataset-level IoU against torchmetrics and by hand, and intervals over seeds."""

import math

import numpy as np
import pytest
import torch

from fss.evaluation.semantic import ConfusionMatrix, seed_interval


def test_pooled_iou_equals_torchmetrics() -> None:
    from torchmetrics import JaccardIndex  # takes two seconds, which no other test needs

    random = torch.Generator().manual_seed(0)
    reference = JaccardIndex(task="multiclass", num_classes=5, average="none", ignore_index=255)
    confusion = ConfusionMatrix(5)
    for _ in range(3):
        predicted, true = (torch.randint(0, 5, (2, 9, 7), generator=random) for _ in range(2))
        true[0, :3] = 255
        confusion.add(predicted, true)
        reference.update(predicted, true)
    assert confusion.iou() == pytest.approx(reference.compute().numpy(), abs=1e-6)


def test_absent_classes_and_ignored_pixels_do_not_count() -> None:
    confusion = ConfusionMatrix(4)
    confusion.add(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8))
    iou = confusion.iou()
    assert iou[:2].tolist() == [0.5, 0.0] and np.isnan(iou[2:]).all()
    assert confusion.miou() == 0.25 and ConfusionMatrix(2).miou() == 0.0


def test_the_interval_over_seeds_uses_students_t() -> None:
    interval = seed_interval([0.1, 0.2, 0.3])
    assert interval.mean == pytest.approx(0.2)
    assert interval.high - interval.mean == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)
    with pytest.raises(ValueError, match="two runs"):
        seed_interval([0.5])
