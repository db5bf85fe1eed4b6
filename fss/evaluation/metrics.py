"""Metrics of few-shot segmentation, with bootstrap intervals over the episodes.

Pooled mIoU sums intersections and unions over all episodes of a class, divides, and averages the classes (Min et al.,
HSNet, ICCV 2021, and most papers). Per-episode mIoU averages the IoU of single episodes per class, then the classes
(Amac et al., MaskSplit, WACV 2022). The two are not comparable. FB-IoU is the mean of the foreground and background
IoU, each pooled over all episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fss.core.arrays import IGNORE
from fss.core.rng import keyed_rng

RESAMPLES = 1000
LEVEL = 0.95
FEWEST_PAIRS = 6
"""Fewest episodes that can tell two methods apart: of fewer, a coin would lead in all more often than the level allows.

The bootstrap does not notice it: the interval of a single episode has no width.
"""

Counts = NDArray[np.int64]
"""Pixel counts [E, 2, 2]: for each episode the intersection and the union, each of background and foreground."""

METRIC_NAMES = ("miou", "episode_miou", "fb_iou")
"""Names of the metrics in the order of every table."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the interval that holds the middle 95 % of its bootstrap resamples."""

    value: float
    """Value on the episodes themselves."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of one method on one plan, in [0, 1]."""

    miou: Interval
    """Pooled mIoU."""
    episode_miou: Interval
    """Per-episode mIoU, without episodes whose union is empty."""
    fb_iou: Interval
    """Mean of the pooled foreground IoU and the pooled background IoU."""
    per_class: dict[int, float]
    """Pooled IoU of every class that occurs."""


def count_pixels(prediction: Tensor, target: Tensor) -> Counts:
    """Count the intersection and union of each episode.

    Args:
        prediction: [B, H, W] in {0, 1, 255}; 1 is foreground, any other value is background.
        target: [B, H, W] in {0, 1, 255}; pixels at 255 are not counted.

    Returns:
        int64 [B, 2, 2], see :data:`Counts`.

    Raises:
        ValueError: the shapes differ, or there are other values, such as probabilities or class ids.
    """
    if prediction.ndim != 3 or prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must both be [B,H,W], got "
            f"{list(prediction.shape)} and {list(target.shape)}; resize the prediction to its target"
        )
    for name, values in (("prediction", prediction), ("target", target)):
        if not ((values == 0) | (values == 1) | (values == IGNORE)).all():
            raise ValueError(
                f"the {name} must hold 0, 1 and {IGNORE} (ignored), got values from {values.min()} to {values.max()}; "
                "cut probabilities at 0.5, and set one class to 1"
            )
    valid = target != IGNORE
    pairs = []
    for value in (0, 1):
        predicted, true = ((prediction == 1) == bool(value)) & valid, target == value
        pairs.append(torch.stack([(predicted & true).sum((1, 2)), (predicted | true).sum((1, 2))], 1))
    return np.asarray(torch.stack(pairs, 2).cpu().numpy(), np.int64)


def compute_metrics(class_ids: Sequence[int], counts: Counts, *, seed: int = 0) -> Metrics:
    """Compute the metrics of one method with their intervals.

    Args:
        class_ids: class of each episode, [E].
        counts: pixel counts, [E, 2, 2].
        seed: seed of the resampling; the same seed draws the same episodes for every method.

    Raises:
        ValueError: there is no episode.
    """
    ids, member = _membership(class_ids)
    whole = _evaluate(np.ones((1, len(member))), member, counts)
    resampled = _evaluate(_resamples(len(member), seed), member, counts)
    per_class = _pooled(np.ones((1, len(member))), member, counts)[0]
    return Metrics(
        **{name: _interval(float(whole[name][0]), resampled[name]) for name in METRIC_NAMES},
        per_class=dict(zip(ids, per_class.tolist(), strict=True)),
    )


def paired_differences(
    class_ids: Sequence[int], first: Counts, second: Counts, *, seed: int = 0
) -> dict[str, Interval]:
    """Return the differences ``first - second`` of two methods on the same episodes, resampled in pairs.

    An interval above 0 means that the first method is better. It is narrower than the intervals of the two metrics,
    because easy and hard episodes affect both methods alike. With fewer than ``FEWEST_PAIRS`` episodes it is -1 to 1.
    """
    _, member = _membership(class_ids)
    ones, weights = np.ones((1, len(member))), _resamples(len(member), seed)
    values = [(_evaluate(ones, member, counts), _evaluate(weights, member, counts)) for counts in (first, second)]
    (a, many_a), (b, many_b) = values
    differences = {name: float(a[name][0] - b[name][0]) for name in METRIC_NAMES}
    if len(member) < FEWEST_PAIRS:
        return {name: Interval(value=value, low=-1.0, high=1.0) for name, value in differences.items()}
    return {name: _interval(value, many_a[name] - many_b[name]) for name, value in differences.items()}


def _membership(class_ids: Sequence[int]) -> tuple[list[int], NDArray[np.float64]]:
    if not len(class_ids):
        raise ValueError("metrics need at least one episode, got none")
    ids, inverse = np.unique(np.asarray(class_ids), return_inverse=True)
    return ids.tolist(), np.eye(len(ids))[inverse]


def _resamples(episodes: int, seed: int) -> NDArray[np.float64]:
    """Return how often each resample contains each episode, [R, E]."""
    draws = keyed_rng(seed, item=episodes, purpose="bootstrap").integers(episodes, size=(RESAMPLES, episodes))
    return np.stack([np.bincount(row, minlength=episodes) for row in draws]).astype(np.float64)


def _pooled(weights: NDArray[np.float64], member: NDArray[np.float64], counts: Counts) -> NDArray[np.float64]:
    """Return the pooled foreground IoU, [R, C]; nan for classes that are missing from a resample."""
    intersection, union = (weights @ (member * counts[:, kind, 1, None]) for kind in (0, 1))
    return np.where(weights @ member > 0, intersection / np.maximum(union, 1), np.nan)


def _evaluate(
    weights: NDArray[np.float64], member: NDArray[np.float64], counts: Counts
) -> dict[str, NDArray[np.float64]]:
    """Return every metric, [R], for every row of weights [R, E]."""
    union = counts[:, 1, 1]
    iou = counts[:, 0, 1] / np.maximum(union, 1)
    total = weights @ (member * (union > 0)[:, None])
    per_class = np.where(total > 0, weights @ (member * (iou * (union > 0))[:, None]) / np.maximum(total, 1), np.nan)
    sums = np.einsum("re,ekf->rkf", weights, counts)
    return {
        "miou": np.nanmean(_pooled(weights, member, counts), 1),
        "episode_miou": _nanmean(per_class),
        "fb_iou": (sums[:, 0] / np.maximum(sums[:, 1], 1)).mean(1),
    }


def _nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes that have a value, [R]; 0 where none has."""
    valid = ~np.isnan(values)
    return np.asarray(np.where(valid, values, 0).sum(1) / np.maximum(valid.sum(1), 1))


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))
