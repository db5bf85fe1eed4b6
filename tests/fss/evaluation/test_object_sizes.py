"""Metrics by object size, by hand."""

import numpy as np
import pytest
import torch

from fss.evaluation.object_sizes import metrics_by_size, object_shares, size_thirds


def test_void_belongs_to_the_image_but_not_to_the_object() -> None:
    target = torch.tensor([[[1, 1, 255, 0]], [[255, 255, 255, 255]]])
    assert object_shares(target).tolist() == [0.5, 0.0]


def test_thirds_by_hand() -> None:
    assert size_thirds(np.array([0.5, 0.1, 0.2, 0.4, 0.3, 0.6])) == [
        "large",
        "small",
        "small",
        "medium",
        "medium",
        "large",
    ]


def test_equal_shares_stay_together() -> None:
    assert size_thirds(np.array([0.2, 0.2, 0.2])) == ["small"] * 3


def test_metrics_of_each_third_by_hand() -> None:
    # (background I, foreground I), (background U, foreground U): foreground IoU 1/2 and 1/4; 0/0 and 2/4; 3/4.
    rows = [((9, 1), (9, 2)), ((9, 1), (9, 4)), ((9, 0), (9, 0)), ((9, 2), (9, 4)), ((9, 3), (9, 4))]
    thirds = metrics_by_size([1, 2, 1, 1, 2], np.array(rows), np.array([0.1, 0.1, 0.2, 0.3, 0.9]))
    assert list(thirds) == ["small", "medium", "large"]
    assert [third.episodes for third in thirds.values()] == [2, 1, 2]
    assert thirds["small"].miou.value == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert thirds["medium"].miou.value == 0
    assert thirds["large"].miou.value == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert (thirds["large"].low, thirds["large"].high) == (0.3, 0.9)


def test_a_third_without_episodes_is_left_out() -> None:
    counts = np.array([((1, 1), (2, 2))] * 3)
    assert list(metrics_by_size([1, 1, 1], counts, np.array([0.2] * 3))) == ["small"]
