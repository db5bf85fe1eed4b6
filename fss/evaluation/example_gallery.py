"""Selection of the episodes to visualize: the best and worst by IoU, and some at random.

During an evaluation only the predictions that may be visualized stay in memory: those of the random episodes, which are
known beforehand, and those that are among the best or worst so far.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import UInt8
from fss.core.rng import keyed_rng
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.metrics import Counts

GROUPS = ("best", "worst", "random")
PER_CLASS = 2
"""Largest number of best and of worst episodes of one class, so that one class does not fill a sheet."""
FIXED_EPISODES = 8
"""Number of episodes of a plan that every evaluation visualizes, so that models can be compared by eye."""


class Gallery:
    """Predictions of a method that may be visualized, by episode number."""

    def __init__(self, fixed: Collection[int] = (), extremes: int = 0):
        """Create an empty gallery.

        Args:
            fixed: numbers of the episodes whose predictions are always kept.
            extremes: number of best and of worst episodes whose predictions are kept too.
        """
        self._fixed, self._extremes = frozenset(fixed), extremes
        self._ranked: dict[int, float] = {}
        self._classes: dict[int, int] = {}
        self.masks: dict[int, UInt8] = {}

    def offer(self, number: int, iou: float, mask: UInt8, *, class_id: int = 0) -> None:
        """Keep the prediction of an episode of a class if it may be visualized; ``iou`` is nan for an empty union."""
        if number in self._fixed:
            self.masks[number] = mask
        if self._extremes == 0 or np.isnan(iou):
            return
        self._ranked[number], self._classes[number], self.masks[number] = iou, class_id, mask
        order = _ascending(self._ranked)
        kept = {*_spread(order, self._classes, self._extremes), *_spread(order[::-1], self._classes, self._extremes)}
        for dropped in set(order) - kept:
            del self._ranked[dropped], self._classes[dropped]
            if dropped not in self._fixed:
                del self.masks[dropped]


def episode_ious(counts: Counts) -> NDArray[np.float64]:
    """Return the foreground IoU of each episode, [E] in [0, 1]; nan where the union is empty."""
    intersection, union = counts[:, 0, 1], counts[:, 1, 1]
    return np.where(union > 0, intersection / np.maximum(union, 1), np.nan)


def random_episode_numbers(plan: EpisodePlan, count: int) -> list[int]:
    """Draw ``count`` episode numbers of a plan with its seed, sorted; all of them in a smaller plan."""
    numbers = [episode.number for episode in plan]
    sample = keyed_rng(plan.seed, item=len(plan), purpose="gallery").permutation(len(numbers))[:count]
    return sorted(numbers[int(index)] for index in sample)


def choose_episodes(plan: EpisodePlan, counts: Counts, count: int) -> dict[str, list[int]]:
    """Choose up to ``count`` episodes for each of the groups best, worst and random.

    The best group starts with the highest IoU, the worst with the lowest; both have at most two of a class. An episode
    with an empty union has no IoU and is in neither. In a plan of fewer than ``2 * count`` episodes the groups overlap.

    Args:
        plan: the episodes.
        counts: counts [E, 2, 2] of one method, in the order of the plan.
        count: episodes per group.

    Returns:
        Episode numbers by group.
    """
    ious = episode_ious(counts)
    by_number = {episode.number: float(iou) for episode, iou in zip(plan, ious, strict=True) if not np.isnan(iou)}
    order = _ascending(by_number)
    classes = {episode.number: episode.class_id for episode in plan}
    groups = (_spread(order[::-1], classes, count), _spread(order, classes, count), random_episode_numbers(plan, count))
    return dict(zip(GROUPS, groups, strict=True))


def _spread(order: Iterable[int], classes: Mapping[int, int], count: int) -> list[int]:
    """Return the first ``count`` numbers of which at most :data:`PER_CLASS` are of one class."""
    chosen: list[int] = []
    taken: Counter[int] = Counter()
    for number in order:
        if len(chosen) < count and taken[classes[number]] < PER_CLASS:
            chosen.append(number)
            taken[classes[number]] += 1
    return chosen


def _ascending(ious: dict[int, float]) -> list[int]:
    return sorted(ious, key=lambda number: (ious[number], number))
