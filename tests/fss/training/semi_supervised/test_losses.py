"""Losses by hand: class weights on the labels alone, the three kinds of answers, and the pool's own mean."""

import math

import pytest
import torch

from fss.training.semi_supervised.losses import StageTargets, TeacherTargets, pixel_loss, stage_loss, teacher_loss


def logits(odds: list[float]) -> torch.Tensor:
    """Logits [len, 2, 1, 1] with the odds of class 1."""
    rows = torch.zeros(len(odds), 2, 1, 1)
    rows[:, 1, 0, 0] = torch.tensor(odds).log()
    return rows


def labels(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1)


def test_class_weights_make_a_weighted_mean() -> None:
    found = pixel_loss(logits([3, 3, 3]), labels([0, 1, 255]), torch.tensor([1.0, 4.0]))
    expected = (1 * -math.log(1 / 4) + 4 * -math.log(3 / 4)) / 5
    assert float(found.mean) == pytest.approx(expected) and float(found.local) == pytest.approx(expected)
    none = pixel_loss(logits([3]), labels([255]), torch.tensor([1.0, 4.0]))
    assert float(none.mean) == 0


def test_answers_count_by_confidence_or_as_probabilities() -> None:
    right, wrong = -math.log(3 / 4), -math.log(1 / 4)
    cases = (
        (TeacherTargets(labels([1, 0, 255])), (right + wrong) / 2),
        (
            TeacherTargets(labels([1, 0, 255]), weights=torch.tensor([0.25, 0.5, 9.0]).view(3, 1, 1)),
            (0.25 * right + 0.5 * wrong) / 2,
        ),
        (
            TeacherTargets(
                labels([1, 0, 255]),
                probabilities=torch.tensor([[0.2, 0.8], [0.6, 0.4], [1, 0]]).view(3, 2, 1, 1),
            ),
            (0.8 * right + 0.2 * wrong + 0.4 * right + 0.6 * wrong) / 2,
        ),
    )
    for targets, expected in cases:
        assert float(teacher_loss(logits([3, 3, 3]), targets).mean) == pytest.approx(expected)


def test_the_pool_has_its_own_mean_and_the_labels_alone_have_class_weights() -> None:
    main = logits([3, 9, 9])  # one labelled picture, two of the pool
    targets = StageTargets(labels([1]), TeacherTargets(labels([1, 0])), labels([255, 255, 255]))
    weights = {"supervised": 1.0, "consistency": 2.0, "pseudo": 0.0}
    loss, parts = stage_loss(main, None, targets, weights, torch.tensor([1.0, 7.0]))
    expected = {"supervised": -math.log(3 / 4), "consistency": (-math.log(9 / 10) - math.log(1 / 10)) / 2}
    assert parts == pytest.approx(expected)
    assert float(loss.mean) == pytest.approx(expected["supervised"] + 2 * expected["consistency"])
