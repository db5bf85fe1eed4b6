"""Evaluate methods on an episode plan: plain Python; each image is decoded and encoded once while there is room."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch, Reader
from fss.evaluation.example_gallery import Gallery, episode_ious
from fss.evaluation.methods import Method
from fss.evaluation.metrics import Counts, Interval, Metrics, compute_metrics, count_pixels, paired_differences
from fss.evaluation.object_sizes import SizeMetrics, metrics_by_size, object_shares


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The pixel counts of every method on every episode, and what follows from them."""

    plan: EpisodePlan
    """The episodes."""
    size: int
    """Pixels a side at which the pictures were seen, and scored unless ``original``."""
    original: bool = False
    """Whether they were scored at each query's own size."""
    counts: dict[str, Counts]
    """By method, in the plan's order."""
    shares: NDArray[np.float64]
    """[E]: share of each query's picture that the object covers, in the plan's order."""
    seconds: dict[str, float]
    """By method: time spent in it."""
    passes: dict[str, int]
    """By method: images that went through its backbone."""
    predictions: dict[str, dict[int, NDArray[np.uint8]]] = field(default_factory=dict)
    """By method and episode number: the predicted masks that were asked for, uint8 in {0, 1}, as they were scored."""

    @property
    def class_ids(self) -> list[int]:
        """The class of each episode."""
        return [episode.class_id for episode in self.plan]

    def metrics(self, method: str) -> Metrics:
        """Return the figures of a method with their intervals."""
        return compute_metrics(self.class_ids, self.counts[method])

    def metrics_by_size(self, method: str) -> dict[str, SizeMetrics]:
        """Return the figures of a method on small, medium and large objects (see fss.evaluation.object_sizes)."""
        return metrics_by_size(self.class_ids, self.counts[method], self.shares)

    def difference(self, first: str, second: str) -> dict[str, Interval]:
        """Return by how much the first method is better than the second, with paired intervals."""
        return paired_differences(self.class_ids, self.counts[first], self.counts[second])


def evaluate(
    methods: Sequence[Method],
    plan: EpisodePlan,
    source: Reader | EpisodeImages,
    *,
    size: int,
    original: bool = False,
    batch: int = 8,
    keep: Collection[int] = (),
    extremes: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationResult:
    """Let every method answer every episode.

    The episodes are visited class by class, so that the images of a class are at hand together; the result is in the
    plan's order and does not depend on the order of visit.

    Args:
        methods: models and baselines, of different names.
        plan: the episodes.
        source: reads the plan's collection and the mask set that holds the truth; the same ``EpisodeImages`` for
            several plans lets methods reuse the features of an image from plan to plan.
        size: pixels a side of pictures, masks and scoring.
        original: score at each query's own size instead: logits are resized to it before the decision, and the truth
            is not resized at all (``use_original_imgsize`` of HSNet's published code).
        batch: episodes at once; at original sizes it is one at a time.
        keep: episode numbers whose predictions are returned.
        extremes: how many of the best and of the worst predictions of each method are returned too.
        progress: called with the episodes done and all of them.

    Raises:
        ValueError: no methods, two of one name, or an image that the reader does not have.
    """
    names = _names(methods)
    pictures = source if isinstance(source, EpisodeImages) else EpisodeImages(source, size)
    assert pictures.size == size, "pictures are kept at one size"
    counts = {name: np.zeros((len(plan), 2, 2), np.int64) for name in names}
    shares, seconds = np.zeros(len(plan)), dict.fromkeys(names, 0.0)
    galleries = {name: Gallery(keep, extremes) for name in names}
    before = {method.name: method.passes for method in methods}
    done = 0
    for rows in _visits(plan, 1 if original else batch):
        chunk = EvaluationBatch.load([plan.episodes[row] for row in rows], pictures, original=original)
        shares[rows] = object_shares(chunk.target)
        for method in methods:
            began = time.perf_counter()
            prediction = method.predict(chunk).cpu()
            seconds[method.name] += time.perf_counter() - began
            counts[method.name][rows] = count_pixels(prediction, chunk.target)
            _show(galleries[method.name], chunk, prediction, counts[method.name][rows])
        done += len(rows)
        progress(done, len(plan))
    return EvaluationResult(
        plan=plan,
        size=size,
        original=original,
        counts=counts,
        shares=shares,
        seconds=seconds,
        passes={method.name: method.passes - before[method.name] for method in methods},
        predictions={name: gallery.masks for name, gallery in galleries.items()},
    )


def _names(methods: Sequence[Method]) -> list[str]:
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give at least one method, each with a name of its own; got {names}")
    return names


def _visits(plan: EpisodePlan, batch: int) -> Iterator[list[int]]:
    """Yield the rows of a plan, some at a time, neighbours by class and query."""
    order = sorted(range(len(plan)), key=lambda row: (plan.episodes[row].class_id, plan.episodes[row].query_id, row))
    for first in range(0, len(order), batch):
        yield order[first : first + batch]


def _show(gallery: Gallery, chunk: EvaluationBatch, prediction: Tensor, counts: Counts) -> None:
    for place, (episode, iou) in enumerate(zip(chunk.episodes, episode_ious(counts), strict=True)):
        gallery.offer(episode.number, float(iou), prediction[place].numpy().astype(np.uint8))
