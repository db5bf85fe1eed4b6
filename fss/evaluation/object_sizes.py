"""Metrics by the size of the object.

An episode's size is the share of the query's picture that the object covers: its pixels over all pixels of the
picture, void ones included, at the size at which the episode is scored. The episodes of a plan are cut into thirds at
the 1/3 and 2/3 quantiles of that share, so the bounds are the plan's own and every method meets the same thirds:
*small* up to the first bound, *medium* up to the second, *large* above. Equal shares fall into one third, which may
leave others smaller, or empty.
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
    """What a method reaches on one third of the episodes."""

    low: float
    """Smallest share of the picture that occurs in it."""
    high: float
    """Largest share."""
    episodes: int
    """Episodes in it."""
    miou: Interval
    """Pooled mIoU over the classes that occur in it."""
    episode_miou: Interval
    """Per-episode mIoU."""


def object_shares(target: Tensor) -> NDArray[np.float64]:
    """Return the share of each picture that the object covers, [B]; target is [B, H, W] in {0, 1, 255}."""
    return np.asarray((target == 1).double().mean((1, 2)).cpu().numpy(), np.float64)


def size_thirds(shares: NDArray[np.float64]) -> list[str]:
    """Return the third of each episode: small, medium or large."""
    first, second = np.quantile(shares, [1 / 3, 2 / 3])
    return [SIZES[int(share > first) + int(share > second)] for share in shares]


def metrics_by_size(
    class_ids: Sequence[int], counts: Counts, shares: NDArray[np.float64], *, seed: int = 0
) -> dict[str, SizeMetrics]:
    """Return the figures of every third that has episodes.

    Args:
        class_ids: of each episode.
        counts: [E, 2, 2] of one method.
        shares: [E].
        seed: of the intervals' resamples.
    """
    thirds = np.array(size_thirds(shares))
    found = {}
    for name in SIZES:
        rows = np.flatnonzero(thirds == name)
        if not len(rows):
            continue
        part = compute_metrics(np.asarray(class_ids)[rows].tolist(), counts[rows], seed=seed)
        found[name] = SizeMetrics(
            low=float(shares[rows].min()),
            high=float(shares[rows].max()),
            episodes=len(rows),
            miou=part.miou,
            episode_miou=part.episode_miou,
        )
    return found
