"""The work of an evaluation task: all methods on its share of the episodes of all plans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fss.collection import Collection, ImageReader
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.baselines import (
    AllForeground,
    SalientObject,
    UntrainedPrototype,
    is_untrained_density,
    untrained_density,
    untrained_density_prior,
)
from fss.evaluation.calibration import Answers, answer_plans
from fss.evaluation.episode_images import EpisodeImages
from fss.evaluation.evaluator import EvaluationResult, evaluate
from fss.evaluation.example_gallery import FIXED_EPISODES, random_episode_numbers
from fss.evaluation.methods import Method, SegmenterMethod
from fss.models import FewShotSegmenter
from fss.models.config import Fusion, Precision, Scales
from fss.models.precision import set_precision
from fss.saliency import SaliencyConfig, SaliencyEstimator
from pipelines.runtime.model_source import ModelSource, load_model

MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """Inputs and settings of an evaluation task; picklable."""

    model: ModelSource
    """Model to evaluate."""
    collection: str
    """URI of the labelled collection."""
    mask_set: str
    """Mask set that holds the ground truth."""
    plans: tuple[EpisodePlan, ...]
    """Episode plans."""
    absent: tuple[EpisodePlan, ...]
    """For each plan, episodes without the object, on which presence is measured."""
    image_size: int
    """Side of the pictures in pixels, for prediction and scores."""
    original_size: bool
    """Whether to score at the original sizes of the queries."""
    fusion: Fusion
    """Rule that joins the predictions of several shots."""
    scales: Scales
    """Scales in which the model sees queries."""
    flip: bool
    """Whether the model sees queries mirrored too."""
    refine: bool
    """Whether the outlines of segmenters follow the edges of the queries."""
    baselines: bool
    """Whether the baselines are evaluated too."""
    saliency: SaliencyConfig
    """Estimator of the saliency baseline."""
    visualizations: int
    """Number of predictions of each kind (best, worst, random) to return per plan, besides the fixed ones."""
    device: str
    """Resolved device of the networks."""
    precision: Precision
    """Precision of the networks."""


def evaluate_share(task: EvaluationTask, share: int, shares: int, threads: int) -> list[EvaluationResult]:
    """Evaluate share ``share`` (from 0) of ``shares`` of every plan, with ``threads`` threads; a result per plan."""
    import torch

    torch.set_num_threads(threads)
    set_precision(task.precision, task.device)
    collection = Collection.open(task.collection)
    reader = ImageReader(collection, collection.mask_set(task.mask_set))
    segmenter = load_model(task.model)
    model = SegmenterMethod(
        segmenter,
        name=MODEL,
        fusion=task.fusion,
        device=task.device,
        precision=task.precision,
        scales=task.scales,
        flip=task.flip,
        refine=task.refine,
    )
    methods: list[Method] = [model]
    if task.baselines:
        untrained = _untrained(segmenter)
        options: dict[str, Any] = {"device": task.device, "precision": task.precision, "refine": task.refine}
        methods += [
            AllForeground(),
            SalientObject(_Saliency(task.saliency)),
            UntrainedPrototype(untrained.backbone, device=task.device),
        ]
        if not is_untrained_density(segmenter) or task.scales != "whole" or task.flip:
            methods.append(untrained_density(untrained, **options))
        if prior := untrained_density_prior(untrained, **options):
            methods.append(prior)
    for method in methods:
        if isinstance(method, SegmenterMethod):
            method.prepare()
    images = EpisodeImages(reader, task.image_size)  # shared by all plans, which have many pictures in common
    fixed = max(FIXED_EPISODES, task.visualizations)
    results = []
    for plan, absent in zip(task.plans, task.absent, strict=True):
        own = replace(plan, episodes=tuple(plan.episodes[row] for row in share_rows(plan, share, shares)))
        result = evaluate(
            methods,
            own,
            images,
            size=task.image_size,
            original=task.original_size,
            keep=random_episode_numbers(plan, fixed) if task.visualizations else (),
            extremes=task.visualizations,
        )
        answers = _answers(model, own, absent, images)
        results.append(replace(result, calibration=segmenter.calibration, answers=answers))
    return results


def evaluate_named_share(name: str, *, task: EvaluationTask, shares: int, threads: int) -> dict[str, Any]:
    """Evaluate the share of this number for the part driver; the results are those of every plan, or a user's error."""
    try:
        return {"results": evaluate_share(task, int(name), shares, threads)}
    except ValueError as error:  # such as a model that does not fit: another try would end in the same way
        return {"results": error}


def share_rows(plan: EpisodePlan, share: int, shares: int) -> list[int]:
    """Return the rows of a plan in a share, grouped by class and query, so that few pictures are read in two shares."""
    order = sorted(range(len(plan)), key=lambda row: (plan.episodes[row].class_id, plan.episodes[row].query_id, row))
    return sorted(order[len(plan) * share // shares : len(plan) * (share + 1) // shares])


def join(plan: EpisodePlan, results: Sequence[EvaluationResult]) -> EvaluationResult:
    """Join the results of all shares of a plan, in the order of the plan."""
    row_of = {episode.number: row for row, episode in enumerate(plan)}
    rows = np.array([row_of[episode.number] for result in results for episode in result.plan])
    assert sorted(rows) == list(range(len(plan))), "every episode is in exactly one share"
    order = np.argsort(rows)
    names = list(results[0].counts)
    return EvaluationResult(
        plan=plan,
        size=results[0].size,
        original=results[0].original,
        shares=np.concatenate([result.shares for result in results])[order],
        passes={name: sum(result.passes[name] for result in results) for name in names},
        backends=results[0].backends,
        tiled={name: sum(result.tiled[name] for result in results) for name in names},
        flipped=results[0].flipped,
        refined=results[0].refined,
        counts={name: np.concatenate([result.counts[name] for result in results])[order] for name in names},
        seconds={name: sum(result.seconds[name] for result in results) for name in names},
        predictions={name: {k: v for result in results for k, v in result.predictions[name].items()} for name in names},
        calibration=results[0].calibration,
        answers=Answers.join([result.answers for result in results]),
    )


def _answers(model: SegmenterMethod, plan: EpisodePlan, absent: EpisodePlan, images: EpisodeImages) -> Answers:
    """Let the model answer the episodes of a plan that have a row without the object, and these rows."""
    numbers = {episode.number for episode in plan}
    gone = tuple(episode for episode in absent if episode.number in numbers)
    paired = {episode.number for episode in gone}
    here = tuple(episode for episode in plan if episode.number in paired)
    return answer_plans(model, replace(plan, episodes=here), replace(absent, episodes=gone), images)


def _untrained(segmenter: FewShotSegmenter) -> FewShotSegmenter:
    """Return a segmenter whose backbone is as it was before training."""
    if segmenter.config.frozen:
        return segmenter
    return FewShotSegmenter.from_config(segmenter.config, prior=segmenter.prior)


class _Saliency:
    """Estimates the mask of each picture once, although it is in several plans."""

    def __init__(self, config: SaliencyConfig) -> None:
        self._estimator = SaliencyEstimator(config)
        self._masks: dict[str, np.ndarray] = {}

    def __call__(self, image_id: str, rgb: np.ndarray) -> np.ndarray:
        if image_id not in self._masks:
            self._masks[image_id] = np.packbits(self._estimator.estimate(rgb, image_id=image_id).mask)
        return np.unpackbits(self._masks[image_id], count=rgb.shape[0] * rgb.shape[1]).reshape(rgb.shape[:2])
