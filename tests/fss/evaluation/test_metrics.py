"""Metrics by hand and against torchmetrics, and their intervals."""

import numpy as np
import pytest
import torch

from fss.core.rng import keyed_rng
from fss.evaluation.metrics import compute_metrics, count_pixels, paired_differences


def counts_of(*episodes: tuple[int, int, int, int]) -> np.ndarray:
    """Turn (background I, foreground I, background U, foreground U) per episode into counts."""
    return np.array([[[b, f], [bu, fu]] for b, f, bu, fu in episodes], np.int64)


def random_episodes(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    rng = keyed_rng(0, purpose="test")
    prediction = torch.from_numpy(rng.integers(0, 2, (count, 12, 12)))
    noise = torch.from_numpy(rng.random((count, 12, 12)))
    target = torch.where(noise < 0.6, prediction, torch.where(noise < 0.9, 1 - prediction, 255))
    return prediction, target, rng.integers(1, classes + 1, count).tolist()


def test_pixel_counts_by_hand() -> None:
    prediction = torch.tensor([[[1, 1, 0, 0, 1]]])
    target = torch.tensor([[[1, 0, 0, 1, 255]]])
    assert count_pixels(prediction, target).tolist() == [[[1, 1], [3, 3]]]


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (torch.ones(1, 4, 4), torch.ones(2, 4, 4), r"both be \[B,H,W\], got \[1, 4, 4\] and \[2, 4, 4\]"),
        (torch.ones(4, 4), torch.ones(4, 4), r"both be \[B,H,W\], got \[4, 4\]"),
        (
            torch.full((1, 4, 4), 0.75),
            torch.ones(1, 4, 4),
            "the prediction must hold 0, 1 and 255 .* from 0.75 to 0.75",
        ),
        (
            torch.ones(1, 4, 4),
            torch.full((1, 4, 4), 7),
            "the target must hold 0, 1 and 255 .* from 7 to 7; .* one class",
        ),
    ],
)
def test_what_is_no_pair_of_masks_is_refused(prediction: torch.Tensor, target: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_pixels(prediction, target)


def test_metrics_by_hand() -> None:
    # Class 3: IoU 1/2 and 0/6, so 1/8 pooled and 1/4 per episode. Class 7: 3/4 and an empty union, which is skipped.
    counts = counts_of((5, 1, 10, 2), (0, 0, 10, 6), (6, 3, 10, 4), (9, 0, 10, 0))
    metrics = compute_metrics([3, 3, 7, 7], counts)
    assert metrics.per_class == {3: 1 / 8, 7: 3 / 4}
    assert metrics.miou.value == pytest.approx((1 / 8 + 3 / 4) / 2)
    assert metrics.episode_miou.value == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert metrics.fb_iou.value == pytest.approx((20 / 40 + 4 / 12) / 2)
    assert metrics.miou.low <= metrics.miou.value <= metrics.miou.high


def test_only_empty_unions_give_zero_without_a_warning() -> None:
    metrics = compute_metrics([1, 1], counts_of((4, 0, 4, 0), (4, 0, 4, 0)))
    assert (metrics.miou.value, metrics.episode_miou.value, metrics.fb_iou.value) == (0, 0, 0.5)


def test_pooled_metrics_equal_torchmetrics() -> None:
    from torchmetrics.classification import MulticlassJaccardIndex  # takes two seconds

    prediction, target, ids = random_episodes(40, classes=5)
    metrics = compute_metrics(ids, count_pixels(prediction, target))
    classes = torch.tensor(ids)[:, None, None]
    jaccard = MulticlassJaccardIndex(num_classes=6, average="none", ignore_index=255)
    expected = jaccard(prediction * classes, torch.where(target == 255, 255, target * classes))[1:]
    assert metrics.per_class == pytest.approx({c: float(expected[c - 1]) for c in range(1, 6)}, abs=1e-6)
    assert metrics.miou.value == pytest.approx(float(expected.mean()), abs=1e-6)
    both = MulticlassJaccardIndex(num_classes=2, average="macro", ignore_index=255)(prediction, target)
    assert metrics.fb_iou.value == pytest.approx(float(both), abs=1e-6)


def test_intervals_shrink_with_more_episodes_and_are_reproducible() -> None:
    prediction, target, ids = random_episodes(200, classes=2)
    counts = count_pixels(prediction, target)
    many, few = compute_metrics(ids, counts).miou, compute_metrics(ids[:20], counts[:20]).miou
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert compute_metrics(ids, counts).miou == many


def test_a_steady_difference_has_a_narrow_interval() -> None:
    rng = keyed_rng(1, purpose="test")
    union = np.full(100, 1000)
    weak = rng.integers(100, 800, 100)  # episodes differ much, the two methods differ little on each

    def foreground(intersection: np.ndarray) -> np.ndarray:
        return np.stack([np.stack([weak, intersection], 1), np.stack([union, union], 1)], 1)

    first, second = foreground(weak + 20), foreground(weak)
    difference = paired_differences([1] * 100, first, second)["miou"]
    assert difference.value == pytest.approx(0.02)
    assert 0.015 < difference.low <= difference.high < 0.025
    single = compute_metrics([1] * 100, first).miou
    assert single.high - single.low > 0.05
    zero = paired_differences([1] * 100, first, first)["miou"]
    assert (zero.low, zero.value, zero.high) == (0, 0, 0)


@pytest.mark.parametrize(("episodes", "sure"), [(1, False), (5, False), (6, True)])
def test_a_handful_of_episodes_tells_no_methods_apart(episodes: int, sure: bool) -> None:
    better, worse = counts_of((0, 90, 0, 100)), counts_of((0, 10, 0, 100))
    lead = paired_differences([1] * episodes, np.repeat(better, episodes, 0), np.repeat(worse, episodes, 0))["miou"]
    assert lead.value == pytest.approx(0.8)
    assert (lead.low > 0) == sure


def test_no_episodes_raise_an_error() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        compute_metrics([], counts_of())


def test_absent_classes_and_targets_of_void_by_hand() -> None:
    # Class 2 occurs and is never predicted (0/3). The truth of class 4 is all void: its union is a false positive, 0/1.
    prediction = torch.tensor([[[0, 0, 0, 0]], [[1, 1, 0, 0]]])
    target = torch.tensor([[[1, 1, 1, 0]], [[255, 0, 255, 0]]])
    metrics = compute_metrics([2, 4], count_pixels(prediction, target))
    assert metrics.per_class == {2: 0.0, 4: 0.0}  # classes 1, 3 and 5 are absent
    assert metrics.miou.value == 0
    assert metrics.fb_iou.value == pytest.approx(((1 + 1) / (4 + 2) + 0) / 2)
    # Without prediction and object the pooled IoU is 0, as in the published code, and the episode has no IoU.
    empty = compute_metrics([2, 4], count_pixels(torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]]), target))
    assert empty.per_class == {2: pytest.approx(2 / 3), 4: 0.0}
    assert empty.miou.value == pytest.approx(1 / 3)
    assert empty.episode_miou.value == pytest.approx(2 / 3)
