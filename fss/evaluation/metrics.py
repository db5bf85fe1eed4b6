"""Metrics of few-shot segmentation, with bootstrap intervals over the episodes.

Pooled mIoU sums intersections and unions per class over all episodes before it divides, then averages the classes (Min
et al., HSNet, ICCV 2021, and most papers). Per-episode mIoU averages each episode's own IoU per class, then the classes
(Amac et al., MaskSplit, WACV 2022); the two are not comparable. FB-IoU pools foreground and background over all
classes.
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

Counts = NDArray[np.int64]
"""[E, 2, 2]: for each episode intersection and union, each of background and foreground, in pixels."""

METRIC_NAMES = ("miou", "episode_miou", "fb_iou")
"""The metrics, in the order of every table."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the interval of the middle 95 % of its bootstrap resamples."""

    value: float
    """The figure itself."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The figures of one method on one plan, in [0, 1]."""

    miou: Interval
    """Pooled mIoU."""
    episode_miou: Interval
    """Per-episode mIoU; episodes whose union is empty are skipped."""
    fb_iou: Interval
    """Mean of the pooled IoU of foreground and background."""
    per_class: dict[int, float]
    """Pooled IoU of every class that occurs."""


def count_pixels(prediction: Tensor, target: Tensor) -> Counts:
    """Count intersection and union of each episode.

    Args:
        prediction: [B, H, W]; 1 is foreground, anything else background.
        target: [B, H, W] in {0, 1, 255}; pixels at 255 are removed from both.
    """
    valid = target != IGNORE
    pairs = []
    for value in (0, 1):
        found, wanted = ((prediction == 1) == bool(value)) & valid, target == value
        pairs.append(torch.stack([(found & wanted).sum((1, 2)), (found | wanted).sum((1, 2))], 1))
    return np.asarray(torch.stack(pairs, 2).cpu().numpy(), np.int64)


def compute_metrics(class_ids: Sequence[int], counts: Counts, *, seed: int = 0) -> Metrics:
    """Return the figures with their intervals.

    Args:
        class_ids: of each episode.
        counts: [E, 2, 2], see :data:`Counts`.
        seed: of the resampling; the same seed draws the same episodes for every method.

    Raises:
        ValueError: no episode.
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

    An interval above 0 says that the first is better; it is narrower than those of the two metrics, because both meet
    the same easy and hard episodes.
    """
    _, member = _membership(class_ids)
    ones, weights = np.ones((1, len(member))), _resamples(len(member), seed)
    values = [(_evaluate(ones, member, counts), _evaluate(weights, member, counts)) for counts in (first, second)]
    (a, many_a), (b, many_b) = values
    return {name: _interval(float(a[name][0] - b[name][0]), many_a[name] - many_b[name]) for name in METRIC_NAMES}


def _membership(class_ids: Sequence[int]) -> tuple[list[int], NDArray[np.float64]]:
    if not len(class_ids):
        raise ValueError("metrics need at least one episode, got none")
    ids, inverse = np.unique(np.asarray(class_ids), return_inverse=True)
    return ids.tolist(), np.eye(len(ids))[inverse]


def _resamples(episodes: int, seed: int) -> NDArray[np.float64]:
    """Return how often each episode is drawn, [R, E]."""
    draws = keyed_rng(seed, item=episodes, purpose="bootstrap").integers(episodes, size=(RESAMPLES, episodes))
    return np.stack([np.bincount(row, minlength=episodes) for row in draws]).astype(np.float64)


def _pooled(weights: NDArray[np.float64], member: NDArray[np.float64], counts: Counts) -> NDArray[np.float64]:
    """Return the pooled foreground IoU [R, C]; nan for classes that a resample does not have."""
    intersection, union = (weights @ (member * counts[:, kind, 1, None]) for kind in (0, 1))
    return np.where(weights @ member > 0, intersection / np.maximum(union, 1), np.nan)


def _evaluate(
    weights: NDArray[np.float64], member: NDArray[np.float64], counts: Counts
) -> dict[str, NDArray[np.float64]]:
    """Return every figure for every row of weights [R, E]."""
    union = counts[:, 1, 1]
    own = counts[:, 0, 1] / np.maximum(union, 1)
    shown = weights @ (member * (union > 0)[:, None])
    per_class = np.where(shown > 0, weights @ (member * (own * (union > 0))[:, None]) / np.maximum(shown, 1), np.nan)
    sums = np.einsum("re,ekf->rkf", weights, counts)
    return {
        "miou": np.nanmean(_pooled(weights, member, counts), 1),
        "episode_miou": _nanmean(per_class),
        "fb_iou": (sums[:, 0] / np.maximum(sums[:, 1], 1)).mean(1),
    }


def _nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes that have a value, 0 where none has."""
    there = ~np.isnan(values)
    return np.asarray(np.where(there, values, 0).sum(1) / np.maximum(there.sum(1), 1))


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))
