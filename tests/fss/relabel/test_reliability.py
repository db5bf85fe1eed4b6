"""Reliability of binary masks: empty masks, full masks and overlaps counted by hand."""

import numpy as np
import pytest

from fss.relabel.reliability import agreement_with, foreground_iou, pairwise_agreement

EMPTY, FULL = np.zeros((4, 4), bool), np.ones((4, 4), bool)
TOP = np.repeat([True, False], 8).reshape(4, 4)
LEFT = TOP.T


def test_empty_masks_are_defined() -> None:
    assert foreground_iou(EMPTY, EMPTY) is None
    assert foreground_iou(EMPTY, FULL) == foreground_iou(FULL, EMPTY) == 0.0
    assert foreground_iou(FULL, FULL) == foreground_iou(TOP, TOP) == 1.0


def test_only_the_foreground_counts() -> None:
    assert foreground_iou(TOP, LEFT) == pytest.approx(4 / 12)
    speck, other = EMPTY.copy(), EMPTY.copy()
    speck[0, 0], other[3, 3] = True, True
    assert foreground_iou(speck, other) == 0.0  # 14 of 16 pixels agree: the mean over both classes would say 0.44


def test_only_valid_pixels_count() -> None:
    assert foreground_iou(TOP, LEFT, valid=TOP) == pytest.approx(4 / 8)
    assert foreground_iou(TOP, ~TOP, valid=EMPTY) is None


def test_agreement_with_a_reference_is_the_mean() -> None:
    assert agreement_with(TOP, [TOP, LEFT]) == pytest.approx((1 + 1 / 3) / 2)
    assert agreement_with(TOP, [TOP, EMPTY]) == 0.5
    assert agreement_with(EMPTY, [EMPTY, EMPTY]) is None
    assert agreement_with(TOP, []) is None


def test_two_empty_masks_beside_an_object_count_as_disagreement() -> None:
    assert agreement_with(EMPTY, [EMPTY, TOP]) == 0.0
    assert pairwise_agreement([EMPTY, EMPTY, TOP]) == 0.0
    assert pairwise_agreement([EMPTY, EMPTY]) is None
    assert pairwise_agreement([TOP]) is None


def test_every_pair_counts_once() -> None:
    assert pairwise_agreement([TOP, TOP, LEFT]) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
