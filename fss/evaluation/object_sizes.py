"""Metrics by the size of the object.

The size of an episode is the share of the query image that the object covers: its pixels over all pixels of the image,
void included, at the size of scoring. The 1/3 and 2/3 quantiles of that share divide the episodes of a plan into
thirds: *small* up to the first quantile, *medium* up to the second, *large* above. The thirds depend on the plan only,
so they are the same for every method. Equal shares fall into the same third, so another third may be smaller or empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fss.evaluation.metrics import Counts, Interval, compute_metrics

SIZES = ("small", "medium", "large")


@dataclass(frozen=True, kw_only=True)
class SizeMetrics:
    """Metrics of a method on one third of the episodes."""

    low: float
    """Smallest share of the image that an object of the third covers."""
    high: float
    """Largest share of the image that an object of the third covers."""
    episodes: int
    """Number of episodes in the third."""
    miou: Interval
    """Pooled mIoU over the classes that occur in the third."""
    episode_miou: Interval
    """Per-episode mIoU."""


def object_shares(target: Tensor) -> NDArray[np.float64]:
    """Return the share of each image that the object covers, float64 [B]; target is [B, H, W] in {0, 1, 255}."""
    return np.asarray((target == 1).double().mean((1, 2)).cpu().numpy(), np.float64)


def size_thirds(shares: NDArray[np.float64]) -> list[str]:
    """Return the third of each episode (small, medium or large) from the object shares [E]."""
    first, second = np.quantile(shares, [1 / 3, 2 / 3])
    return [SIZES[int(share > first) + int(share > second)] for share in shares]


def metrics_by_size(
    class_ids: Sequence[int], counts: Counts, shares: NDArray[np.float64], *, seed: int = 0
) -> dict[str, SizeMetrics]:
    """Compute the metrics of every third that has episodes.

    Args:
        class_ids: class of each episode, [E].
        counts: pixel counts of one method, [E, 2, 2].
        shares: object shares of the episodes, [E].
        seed: seed of the resampling.
    """
    thirds = np.array(size_thirds(shares))
    metrics = {}
    for name in SIZES:
        rows = np.flatnonzero(thirds == name)
        if not len(rows):
            continue
        third = compute_metrics(np.asarray(class_ids)[rows].tolist(), counts[rows], seed=seed)
        metrics[name] = SizeMetrics(
            low=float(shares[rows].min()),
            high=float(shares[rows].max()),
            episodes=len(rows),
            miou=third.miou,
            episode_miou=third.episode_miou,
        )
    return metrics
