"""What every evaluation task runs: all methods on its share of the episodes of all plans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fss.collection import Collection, ImageReader
from fss.episodes.plan import EpisodePlan
from fss.evaluation.baselines import AllForeground, SalientObject, UntrainedPrototype
from fss.evaluation.methods import Method, SegmenterMethod
from fss.evaluation.run import EvaluationResult, evaluate
from fss.models import FewShotSegmenter, build_segmenter, load_checkpoint
from fss.saliency import SaliencyConfig, SaliencyEstimator
from pipelines.common.checkpoints import local_copy

MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class EvaluationJob:
    """What a task needs to know."""

    checkpoint: str
    """Folder of the model."""
    collection: str
    """The labelled collection."""
    truth: str
    """Its mask set with the ground truth."""
    plans: tuple[EpisodePlan, ...]
    """The episodes."""
    size: int
    """Pixels a side."""
    baselines: bool
    """Whether the baselines answer too."""
    saliency: SaliencyConfig
    """Of the baseline that segments the salient object."""
    keep: int
    """Predictions of the model to return, of the first episodes of each plan."""


def evaluate_share(job: EvaluationJob, share: int, shares: int, device: str, threads: int) -> list[EvaluationResult]:
    """Evaluate share number ``share`` of ``shares`` of every plan; the shares have whole queries."""
    import torch

    torch.set_num_threads(threads)
    collection = Collection.open(job.collection)
    reader = ImageReader(collection, collection.mask_set(job.truth))
    with local_copy(job.checkpoint) as folder:
        segmenter = load_checkpoint(folder)
    saliency = _Saliency(job.saliency)
    results = []
    for plan in job.plans:
        rows = [plan.episodes[row] for row in share_rows(plan, share, shares)]
        methods: list[Method] = [SegmenterMethod(segmenter, name=MODEL, device=device)]
        if job.baselines:
            methods += [AllForeground(), SalientObject(saliency), _prototype(segmenter, device)]
        part = replace(plan, episodes=tuple(rows))
        results.append(evaluate(methods, part, reader, size=job.size, keep=range(job.keep)))
    return results


def share_rows(plan: EpisodePlan, share: int, shares: int) -> list[int]:
    """Return the rows of a plan that a share has: neighbours by class and query, to read few pictures twice."""
    order = sorted(range(len(plan)), key=lambda row: (plan.episodes[row].class_id, plan.episodes[row].query_id, row))
    return sorted(order[len(plan) * share // shares : len(plan) * (share + 1) // shares])


def join(plan: EpisodePlan, results: Sequence[EvaluationResult]) -> EvaluationResult:
    """Put the shares of one plan together, in the plan's order."""
    place = {episode.number: row for row, episode in enumerate(plan)}
    rows = np.array([place[episode.number] for result in results for episode in result.plan])
    assert sorted(rows) == list(range(len(plan))), "every episode is in exactly one share"
    order = np.argsort(rows)
    names = list(results[0].counts)
    return EvaluationResult(
        plan=plan,
        size=results[0].size,
        original=results[0].original,
        shares=np.concatenate([result.shares for result in results])[order],
        passes={name: sum(result.passes[name] for result in results) for name in names},
        counts={name: np.concatenate([result.counts[name] for result in results])[order] for name in names},
        seconds={name: sum(result.seconds[name] for result in results) for name in names},
        kept={name: {k: v for result in results for k, v in result.kept[name].items()} for name in names},
    )


def _prototype(segmenter: FewShotSegmenter, device: str) -> UntrainedPrototype:
    """Return the baseline on the backbone as it was before training."""
    backbone = segmenter.backbone if segmenter.config.frozen else build_segmenter(segmenter.config).backbone
    return UntrainedPrototype(backbone, device=device)


class _Saliency:
    """Estimates each picture once, whatever the number of plans it occurs in."""

    def __init__(self, config: SaliencyConfig) -> None:
        self._estimator = SaliencyEstimator(config)
        self._masks: dict[str, np.ndarray] = {}

    def __call__(self, image_id: str, rgb: np.ndarray) -> np.ndarray:
        if image_id not in self._masks:
            self._masks[image_id] = np.packbits(self._estimator.estimate(rgb, image_id=image_id).mask)
        return np.unpackbits(self._masks[image_id], count=rgb.shape[0] * rgb.shape[1]).reshape(rgb.shape[:2])
