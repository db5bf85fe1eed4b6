"""Evaluate methods on an episode plan: plain Python; each image is decoded and encoded once while there is room."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fss.episodes.plan import EpisodePlan
from fss.evaluation.methods import Method
from fss.evaluation.metrics import Counts, Figures, Interval, count_pixels, differences, figures
from fss.evaluation.pictures import Chunk, Pictures, Reader


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The pixel counts of every method on every episode, and what follows from them."""

    plan: EpisodePlan
    """The episodes."""
    size: int
    """Pixels a side at which they were scored."""
    counts: dict[str, Counts]
    """By method, in the plan's order."""
    seconds: dict[str, float]
    """By method: time spent in it."""
    kept: dict[str, dict[int, NDArray[np.uint8]]] = field(default_factory=dict)
    """By method and episode number: the predicted masks that were asked for, uint8 [S, S] in {0, 1}."""

    @property
    def class_ids(self) -> list[int]:
        """The class of each episode."""
        return [episode.class_id for episode in self.plan]

    def figures(self, method: str) -> Figures:
        """Return the figures of a method with their intervals."""
        return figures(self.class_ids, self.counts[method])

    def difference(self, first: str, second: str) -> dict[str, Interval]:
        """Return by how much the first method is better than the second, with paired intervals."""
        return differences(self.class_ids, self.counts[first], self.counts[second])


def evaluate(
    methods: Sequence[Method],
    plan: EpisodePlan,
    reader: Reader,
    *,
    size: int,
    batch: int = 8,
    keep: Collection[int] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationResult:
    """Let every method answer every episode.

    The episodes are visited class by class, so that the images of a class are at hand together; the result is in the
    plan's order and does not depend on the order of visit.

    Args:
        methods: models and baselines, of different names.
        plan: the episodes.
        reader: of the plan's collection and the mask set that holds the truth.
        size: pixels a side of pictures, masks and scoring.
        batch: episodes at once.
        keep: episode numbers whose predictions are returned.
        progress: called with the episodes done and all of them.

    Raises:
        ValueError: no methods, two of one name, or an image that the reader does not have.
    """
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give at least one method, each with a name of its own; got {names}")
    pictures = Pictures(reader, size)
    counts = {name: np.zeros((len(plan), 2, 2), np.int64) for name in names}
    seconds = dict.fromkeys(names, 0.0)
    kept: dict[str, dict[int, NDArray[np.uint8]]] = {name: {} for name in names}
    order = sorted(range(len(plan)), key=lambda row: (plan.episodes[row].class_id, plan.episodes[row].query_id, row))
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        chunk = Chunk.load([plan.episodes[row] for row in rows], pictures)
        for method in methods:
            began = time.perf_counter()
            prediction = method.predict(chunk).cpu()
            seconds[method.name] += time.perf_counter() - began
            counts[method.name][rows] = count_pixels(prediction, chunk.target)
            for place, episode in enumerate(chunk.episodes):
                if episode.number in keep:
                    kept[method.name][episode.number] = prediction[place].numpy().astype(np.uint8)
        progress(first + len(rows), len(plan))
    return EvaluationResult(plan=plan, size=size, counts=counts, seconds=seconds, kept=kept)
