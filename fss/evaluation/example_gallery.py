"""Which episodes to draw: the best, the worst and some at random, by the IoU of each episode.

While an evaluation runs only the predictions that may be drawn are kept: those of the random episodes, which are known
beforehand, and those that are among the best or worst so far.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import UInt8
from fss.core.rng import keyed_rng
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.metrics import Counts

GROUPS = ("best", "worst", "random")
FIXED_EPISODES = 8
"""Episodes of a plan that every evaluation draws, so that models can be compared by eye."""


class Gallery:
    """The predictions of a method that may be drawn, by episode number."""

    def __init__(self, fixed: Collection[int] = (), extremes: int = 0):
        """Open a gallery.

        Args:
            fixed: episode numbers that are kept in any case.
            extremes: how many of the best and of the worst episodes are kept too.
        """
        self._fixed, self._extremes = frozenset(fixed), extremes
        self._ranked: dict[int, float] = {}
        self.masks: dict[int, UInt8] = {}

    def offer(self, number: int, iou: float, mask: UInt8) -> None:
        """Show an episode's prediction; ``iou`` is nan where the union is empty."""
        if number in self._fixed:
            self.masks[number] = mask
        if self._extremes == 0 or np.isnan(iou):
            return
        self._ranked[number], self.masks[number] = iou, mask
        order = _ascending(self._ranked)
        for dropped in order[self._extremes : -self._extremes]:
            del self._ranked[dropped]
            if dropped not in self._fixed:
                del self.masks[dropped]


def episode_ious(counts: Counts) -> NDArray[np.float64]:
    """Return each episode's foreground IoU [E], nan where the union is empty."""
    intersection, union = counts[:, 0, 1], counts[:, 1, 1]
    return np.where(union > 0, intersection / np.maximum(union, 1), np.nan)


def random_episode_numbers(plan: EpisodePlan, count: int) -> list[int]:
    """Return ``count`` episode numbers of a plan, drawn from its seed and sorted; all where it has no more."""
    numbers = [episode.number for episode in plan]
    drawn = keyed_rng(plan.seed, item=len(plan), purpose="gallery").permutation(len(numbers))[:count]
    return sorted(numbers[int(place)] for place in drawn)


def choose_episodes(plan: EpisodePlan, counts: Counts, count: int) -> dict[str, list[int]]:
    """Choose up to ``count`` episodes for each group; best first, worst first, and at random.

    An episode whose union is empty has no IoU and is neither best nor worst. A plan of fewer than ``2 * count``
    episodes shows some of them twice.

    Args:
        plan: the episodes.
        counts: of one method, in the plan's order.
        count: episodes per group.
    """
    ious = episode_ious(counts)
    known = {episode.number: float(iou) for episode, iou in zip(plan, ious, strict=True) if not np.isnan(iou)}
    order = _ascending(known)
    groups = (order[::-1][:count], order[:count], random_episode_numbers(plan, count))
    return dict(zip(GROUPS, groups, strict=True))


def _ascending(ious: dict[int, float]) -> list[int]:
    return sorted(ious, key=lambda number: (ious[number], number))
