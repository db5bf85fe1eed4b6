"""Fit a calibration to answers whose truth is known, and measure how well confidence and presence fit the truth."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fss.core.rng import keyed_rng
from fss.episodes.episode import EpisodeBatch
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch
from fss.evaluation.methods import SegmenterMethod
from fss.evaluation.metrics import count_pixels
from fss.models.confidence import SIGNALS, UNCALIBRATED, Calibration, standardize
from fss.models.features import Features, take_features
from fss.models.segmenter import FewShotSegmenter

LOST = 0.1
"""Share of the present objects that the fitted threshold of presence loses."""
LEAST_ANSWERS = 20
"""Fewest answers of each kind that a calibration is fitted to."""
_IOU_SIGNALS = ("expected IoU", "share of the picture", "share of the supports", "certainty")
"""Signals of the IoU: the others order answers on the photographs of the fit, and disorder them on other ones."""
_BATCH = 8  # episodes per pass
_RIDGE = 0.02  # per answer, on weights of standardised signals
_STEPS = 30
_BINS = 10
_KNOTS = 16
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The signals of answers of a segmenter (see fss.models.confidence), and their truth."""

    signals: Tensor
    """Signals of answers for queries with the object, float32 [E,S]."""
    ious: Values
    """IoU of the mask of each of these answers, [E] in 0..1."""
    absent: Tensor
    """Signals of answers for queries without the object, float32 [A,S]."""

    @classmethod
    def join(cls, parts: "Sequence[Answers]") -> "Answers":
        """Return the answers of any number of parts, in their order."""
        nothing = torch.empty(0, len(SIGNALS))
        return cls(
            signals=torch.cat([nothing, *(part.signals for part in parts)]),
            ious=np.concatenate([np.empty(0), *(part.ious for part in parts)]),
            absent=torch.cat([nothing, *(part.absent for part in parts)]),
        )


def absent_plan(plan: EpisodePlan, images_of: Mapping[int, Collection[str]], *, limit: int) -> EpisodePlan:
    """Return the first episodes of a plan with other queries of the plan, which do not show the class.

    Episodes for which the plan has no such query are left out. No image is new, so caches serve all of them.

    Args:
        plan: the episodes.
        images_of: ids of the images that show a class, by class.
        limit: episodes of the plan to change.
    """
    queries = sorted({episode.query_id for episode in plan})
    episodes = []
    for episode in plan.episodes[:limit]:
        taken = {*images_of[episode.class_id], *episode.support_ids}
        order = keyed_rng(plan.seed, item=episode.number, purpose="absent query").permutation(len(queries))
        query = next((queries[index] for index in order if queries[index] not in taken), None)
        if query is not None:
            episodes.append(episode._replace(query_id=query))
    return replace(plan, episodes=tuple(episodes))


def answer_plans(method: SegmenterMethod, plan: EpisodePlan, absent: EpisodePlan, images: EpisodeImages) -> Answers:
    """Let a segmenter answer the episodes of a plan, and those of :func:`absent_plan`."""
    signals, ious = _answer_plan(method, plan, images)
    return Answers(signals=signals, ious=ious, absent=_answer_plan(method, absent, images)[0])


def _answer_plan(method: SegmenterMethod, plan: EpisodePlan, images: EpisodeImages) -> tuple[Tensor, Values]:
    """Return the signals of the answers to a plan, float32 [E,S], and the IoUs of their masks, [E]."""
    signals, ious = [torch.empty(0, len(SIGNALS))], [np.empty(0)]
    for first in range(0, len(plan), _BATCH):
        batch = EvaluationBatch.load(plan.episodes[first : first + _BATCH], images)
        mask, described = method.answer(batch)
        signals.append(described)
        ious.append(mask_ious(mask, batch.target))
    return torch.cat(signals), np.concatenate(ious)


@torch.no_grad()
def answer_tasks(segmenter: FewShotSegmenter, batches: Iterable[EpisodeBatch]) -> Answers:
    """Let a segmenter in evaluation mode answer rendered tasks, and the same supports with the query of another task.

    The other query is that of the next task of the batch; a task whose neighbour has the same picture has none.
    """
    parts = []
    for batch in batches:
        query, support = segmenter.encode_episode(batch.query, batch.support_images, batch.support_masks)
        following = torch.arange(len(batch), device=batch.query.device).roll(-1)
        mask, signals = _answer(segmenter, query, support, batch)
        _, others = _answer(segmenter, take_features(query, following), support, batch)
        differ = [batch.ids[index] != batch.ids[other] for index, other in enumerate(following.tolist())]
        parts.append(Answers(signals=signals, ious=mask_ious(mask, batch.target), absent=others[torch.tensor(differ)]))
    return Answers.join(parts)


def _answer(
    segmenter: FewShotSegmenter, query: Features, support: Features, batch: EpisodeBatch
) -> tuple[Tensor, Tensor]:
    size = batch.target.shape[-2:]
    probability = segmenter.decode(query, support, batch.support_masks, size).float().softmax(1)[:, 1]
    return (probability > 0.5).long(), segmenter.signals(probability, query, support, batch.support_masks)


def mask_ious(masks: Tensor, targets: Tensor) -> Values:
    """Return the IoU of masks with targets ``[B,H,W]``, float64 ``[B]``; 0 where both are empty."""
    intersection, union = np.moveaxis(count_pixels(masks, targets), 1, 0)
    return np.asarray(intersection[:, 1] / np.maximum(union[:, 1], 1))


def fit_calibration(answers: Answers, *, source: str, empty_masks: bool = True) -> Calibration:
    """Fit a calibration, unless there are fewer than ``LEAST_ANSWERS`` answers of a kind.

    Logistic regressions on standardised signals give both: of presence on all, with as much weight for either kind of
    answer, and of the square root of the IoU, which spreads the low ones, on four. An isotonic regression turns the
    score of the latter into an IoU. The threshold of presence loses a share ``LOST`` of the present objects, or is 0.

    Args:
        answers: the answers.
        source: what they are, for the record.
        empty_masks: whether the threshold is to hold for other queries. It does not if the answers are to tasks whose
            query and supports show one photograph: their presence is higher than that of objects elsewhere.
    """
    signals, ious, absent = answers.signals, answers.ious, answers.absent
    if min(len(ious), len(absent)) < LEAST_ANSWERS:
        return UNCALIBRATED
    every = torch.cat([signals, absent]).double().numpy()
    center, scale = every.mean(0), every.std(0).clip(1e-3)
    standard = standardize(every, center, scale)
    present = np.arange(len(every)) < len(ious)
    presence_weights, bias = _logistic(standard, present.astype(np.float64), _balance(present))
    about_iou = np.isin(SIGNALS, _IOU_SIGNALS)
    iou_weights = np.zeros(len(SIGNALS))
    equal = np.full(len(ious), 1 / len(ious))
    iou_weights[about_iou], _ = _logistic(standard[present][:, about_iou], np.sqrt(ious), equal)
    scores = standard[present] @ iou_weights
    knots, levels = _isotonic(scores, ious)
    log_odds = standard[present] @ presence_weights + bias
    threshold = 1 / (1 + np.exp(-float(np.quantile(log_odds, LOST)))) if empty_masks else 0.0
    return Calibration(
        center=_rounded(center),
        scale=_rounded(scale),
        iou_weights=_rounded(iou_weights),
        iou_scores=_rounded(knots),
        ious=_rounded(levels),
        presence_weights=_rounded(presence_weights),
        presence_bias=round(float(bias), 4),
        threshold=round(threshold, 4),
        source=source,
    )


def _balance(present: NDArray[np.bool_]) -> Values:
    return np.asarray(np.where(present, 0.5 / present.sum(), 0.5 / (~present).sum()))


def _logistic(x: Values, y: Values, weights: Values) -> tuple[Values, float]:
    """Fit a logistic regression with ridge by Newton's method; return its weights and its bias.

    Args:
        x: standardised inputs ``[N,S]``.
        y: targets ``[N]`` in 0..1.
        weights: weight of each row ``[N]``; they add up to 1.
    """
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[-1] = 1e-6
    beta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights * (p - y)) + ridge * beta
        curvature = (design.T * (weights * p * (1 - p))) @ design + np.diag(ridge)
        beta = beta - np.linalg.solve(curvature, gradient)
    return beta[:-1], float(beta[-1])


def _isotonic(scores: Values, ious: Values) -> tuple[Values, Values]:
    """Return the scores and levels of an increasing curve through the IoUs, of at most ``_KNOTS`` points."""
    from scipy.optimize import isotonic_regression  # half a second, which every worker would wait for

    order = np.argsort(scores, kind="stable")
    groups = np.array_split(order, min(_KNOTS, len(order)))
    levels = isotonic_regression([ious[group].mean() for group in groups], weights=[len(group) for group in groups]).x
    return np.array([scores[group].mean() for group in groups]), np.clip(levels, 0, 1)


def _rounded(values: Values) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """How well a segmenter knows its answers, measured on episodes with and without the object."""

    spearman: float
    """Rank correlation of confidence and IoU over the episodes with the object."""
    calibration_error: float
    """Mean distance of confidence and mean IoU over ten groups of equal size, sorted by confidence."""
    threshold: float
    """Probability of presence below which a mask is empty."""
    absent_empty: float
    """Share of the queries without the object whose mask is empty."""
    present_lost: float
    """Share of the queries with the object whose mask is emptied."""
    absent_empty_at_lost: float
    """Share of the queries without the object that are empty at the threshold that loses ``LOST`` of those with it."""
    separation: float
    """Probability that a query with the object has a higher presence than one without it (area under the ROC)."""
    episodes: int
    """Episodes with the object; there are as many without it."""


def measure_sureness(calibration: Calibration, answers: Answers) -> Sureness:
    """Measure the confidence and the presence that a calibration gives to answers, at least one of each kind."""
    signals, ious, absent, threshold = answers.signals, answers.ious, answers.absent, calibration.threshold
    confidence = calibration.confidence(signals)
    here, gone = calibration.presence(signals), calibration.presence(absent)
    unmarked = absent[:, SIGNALS.index("expected IoU")].numpy() == 0
    return Sureness(
        spearman=_spearman(confidence, ious),
        calibration_error=_calibration_error(confidence, ious),
        threshold=threshold,
        absent_empty=float(np.mean((gone < threshold) | unmarked)),
        present_lost=float(np.mean(here < threshold)),
        absent_empty_at_lost=float(np.mean((gone < np.quantile(here, LOST)) | unmarked)),
        separation=float(np.mean((here[:, None] > gone) + 0.5 * (here[:, None] == gone))),
        episodes=len(ious),
    )


def _spearman(first: Values, second: Values) -> float:
    from scipy.stats import spearmanr  # half a second, which every worker would wait for

    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def _calibration_error(confidence: Values, ious: Values) -> float:
    groups = np.array_split(np.lexsort([ious, confidence]), min(_BINS, len(confidence)))
    distances = [abs(float(confidence[group].mean() - ious[group].mean())) * len(group) for group in groups]
    return float(sum(distances) / len(confidence))
