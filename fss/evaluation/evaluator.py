"""Evaluation of methods on an episode plan; each image is decoded and encoded once as long as the caches hold it."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fss.core.prefetch import prefetch
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.calibration import Answers, Sureness, measure_sureness
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch, Reader
from fss.evaluation.example_gallery import Gallery, episode_ious
from fss.evaluation.methods import Method
from fss.evaluation.metrics import Counts, Interval, Metrics, compute_metrics, count_pixels, paired_differences
from fss.evaluation.object_sizes import SizeMetrics, metrics_by_size, object_shares
from fss.models.confidence import UNCALIBRATED, Calibration
from fss.models.scales import passes_per_query


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Pixel counts of every method on every episode, and the metrics derived from them."""

    plan: EpisodePlan
    """Episodes that were evaluated."""
    size: int
    """Side in pixels of the network's input, and of scoring unless ``original``."""
    original: bool = False
    """Whether each episode was scored at the original size of its query."""
    counts: dict[str, Counts]
    """Counts [E, 2, 2] by method, in the order of the plan."""
    shares: NDArray[np.float64]
    """Share of each query image that the object covers, [E] in [0, 1], in the order of the plan."""
    seconds: dict[str, float]
    """Seconds spent in each method."""
    passes: dict[str, int]
    """Images that went through the backbone of each method."""
    backends: dict[str, str]
    """What runs the backbone of each method; empty without one."""
    tiled: dict[str, int]
    """Queries that each method saw in tiles too."""
    flipped: dict[str, bool]
    """Whether each method saw the queries mirrored too."""
    refined: dict[str, bool]
    """Whether the outlines of each method follow the edges of the queries."""
    predictions: dict[str, dict[int, NDArray[np.uint8]]] = field(default_factory=dict)
    """Requested predictions by method and episode number, uint8 [H, W] in {0, 1}, at the size of scoring."""
    calibration: Calibration = UNCALIBRATED
    """Calibration of the model."""
    answers: Answers = field(default_factory=lambda: Answers.join([]))
    """Answers of the model to episodes with and without the object, if there are some."""

    @property
    def sureness(self) -> Sureness | None:
        """How well the model knows its answers; None without answers of both kinds."""
        answers = self.answers
        return measure_sureness(self.calibration, answers) if len(answers.ious) and len(answers.absent) else None

    @property
    def class_ids(self) -> list[int]:
        """Class id of each episode, [E]."""
        return [episode.class_id for episode in self.plan]

    def passes_per_query(self, method: str) -> float:
        """Return the mean number of views of a query that a method compared with the supports."""
        return passes_per_query(len(self.plan), self.tiled[method], flip=self.flipped[method])

    def metrics(self, method: str) -> Metrics:
        """Return the metrics of a method with their intervals."""
        return compute_metrics(self.class_ids, self.counts[method])

    def metrics_by_size(self, method: str) -> dict[str, SizeMetrics]:
        """Return the metrics of a method on small, medium and large objects (see fss.evaluation.object_sizes)."""
        return metrics_by_size(self.class_ids, self.counts[method], self.shares)

    def difference(self, first: str, second: str) -> dict[str, Interval]:
        """Return the metrics of the first method minus those of the second, with paired intervals."""
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
    share: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] = lambda finished, total: None,
) -> EvaluationResult:
    """Evaluate every method on every episode of a plan.

    Episodes are visited class by class, so that the caches hold the images of a class together. The result is in the
    order of the plan and does not depend on the order of the visits. A thread reads the images of the next batches.

    Args:
        methods: models and baselines with different names.
        plan: the episodes.
        source: reads images and ground truth of the plan's collection. Pass the same ``EpisodeImages`` for several
            plans, so that methods reuse the features of their images.
        size: side in pixels of the network's input, and of scoring.
        original: score at the original size of each query instead. Logits are resized to it before the decision, and
            the truth is not resized at all (``use_original_imgsize`` of HSNet's published code).
        batch: episodes per call of a method; always 1 with ``original``.
        keep: episode numbers whose predictions are returned.
        extremes: number of best and of worst predictions of each method that are returned too.
        share: number of this process, from 0, and of all processes, of which each visits some batches. The counts of
            the other episodes are 0, so the sums over the processes are those of one process.
        progress: called after each batch with the number of finished episodes and the number of all.

    Raises:
        ValueError: there are no methods, two methods share a name, or the reader lacks an image.
    """
    names = _names(methods)
    pictures = source if isinstance(source, EpisodeImages) else EpisodeImages(source, size)
    assert pictures.size == size, "EpisodeImages hold images of one size"
    counts = {name: np.zeros((len(plan), 2, 2), np.int64) for name in names}
    shares, seconds = np.zeros(len(plan)), dict.fromkeys(names, 0.0)
    galleries = {name: Gallery(keep, extremes) for name in names}
    before = {method.name: (method.passes, method.tiled) for method in methods}
    finished = 0
    visits = _visits(plan, 1 if original else batch, share)
    for rows, episodes in prefetch(_load(plan, visits, pictures, original=original)):
        shares[rows] = object_shares(episodes.target)
        for method in methods:
            start = time.perf_counter()
            prediction = method.predict(episodes).cpu()
            seconds[method.name] += time.perf_counter() - start
            counts[method.name][rows] = count_pixels(prediction, episodes.target)
            _offer(galleries[method.name], episodes, prediction, counts[method.name][rows])
        finished += len(rows)
        progress(finished, sum(map(len, visits)))
    return EvaluationResult(
        plan=plan,
        size=size,
        original=original,
        counts=counts,
        shares=shares,
        seconds=seconds,
        passes={method.name: method.passes - before[method.name][0] for method in methods},
        backends={method.name: method.backend for method in methods},
        tiled={method.name: method.tiled - before[method.name][1] for method in methods},
        flipped={method.name: method.flip for method in methods},
        refined={method.name: method.refine for method in methods},
        predictions={name: gallery.masks for name, gallery in galleries.items()},
    )


def _names(methods: Sequence[Method]) -> list[str]:
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give at least one method, each with a name of its own; got {names}")
    return names


def _visits(plan: EpisodePlan, batch: int, share: tuple[int, int]) -> list[list[int]]:
    """Return the batches of a share of a plan's rows, sorted by class and query."""
    order = sorted(range(len(plan)), key=lambda row: (plan.episodes[row].class_id, plan.episodes[row].query_id, row))
    visits = [order[first : first + batch] for first in range(0, len(order), batch)]
    number, processes = share
    return visits[len(visits) * number // processes : len(visits) * (number + 1) // processes]


def _load(
    plan: EpisodePlan, visits: Sequence[list[int]], pictures: EpisodeImages, *, original: bool
) -> Iterator[tuple[list[int], EvaluationBatch]]:
    """Read the episodes of each visit, whose images are then in the cache."""
    for rows in visits:
        yield rows, EvaluationBatch.load([plan.episodes[row] for row in rows], pictures, original=original)


def _offer(gallery: Gallery, episodes: EvaluationBatch, prediction: Tensor, counts: Counts) -> None:
    for index, (episode, iou) in enumerate(zip(episodes.episodes, episode_ious(counts), strict=True)):
        mask = prediction[index].numpy().astype(np.uint8)
        gallery.offer(episode.number, float(iou), mask, class_id=episode.class_id)
