"""What a segmenter knows about its answer: the IoU to expect of the mask, and whether the object is there at all.

An answer is described by a few numbers, its signals (:data:`SIGNALS`), which need no second pass: the probabilities
themselves, sizes, and similarities of the query to the object of the supports and to their scene, which is the rest of
them: things stand where things of their kind stood. The similarities compare means of the last map of the backbone,
which is close to what a classifier sees; the learner compares cells and cannot tell a similar part from a similar
object. A :class:`Calibration` turns signals into an expected IoU and a probability of presence. It is fitted on tasks
with known answers (:mod:`fss.evaluation.calibration`).
"""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fss.core.config import from_dict, settings

SIGNALS = (
    "expected IoU",
    "highest logits",
    "mean probability",
    "share of the picture",
    "share of the supports",
    "ratio of the shares",
    "spread of the logits",
    "certainty",
    "object in the marked part",
    "object in the picture",
    "object in the most similar part",
    "scene in the marked part",
    "scene in the picture",
    "scene in the most similar part",
)
"""Names of the signals of an answer, in the order of :func:`answer_signals`."""
_GRID = 48  # cells a side; the signals do not depend on the size of the probabilities beyond it
_TOP = 0.01  # share of the cells whose logits are the highest
_LEAST_SHARE = 1e-4
_WINDOW = 3  # cells a side of a part that may be most similar
_LARGEST = 4.0  # deviations at which a signal is cut off, so that no signal decides alone
Values = NDArray[np.float64]


def expected_iou(probability: Tensor, mask: Tensor) -> Tensor:
    """Return the expected intersection of masks with the true objects over their expected unions, ``[B]``.

    Each pixel belongs to the object independently with its probability. The ratio of the expectations approximates the
    expectation of the ratio (Nowozin, "Optimal Decisions from Probabilistic Models: the Intersection-over-Union Case",
    CVPR 2014, section 3.2). It is 0 where a mask is empty.

    Args:
        probability: probability of the object ``[B,H,W]``.
        mask: ``[B,H,W]``, 0 and 1.
    """
    intersection = (probability * mask).sum((1, 2))
    union = mask.sum((1, 2)) + (probability * (1 - mask)).sum((1, 2))
    return intersection / union.clamp(min=1e-9)


def answer_signals(probability: Tensor, query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
    """Return the signals of answers, float32 ``[B,S]``.

    Args:
        probability: probability of the object at each pixel of the queries ``[B,H,W]``, at any size.
        query: last map of the backbone of the queries ``[B,C,h,w]``.
        supports: that of the supports ``[B * K,C,h,w]``; those of an episode are adjacent.
        masks: masks of the supports ``[B,K,H,W]``, 0 and 1.
    """
    p = F.interpolate(probability[:, None].float(), (_GRID, _GRID), mode="area")[:, 0].clamp(1e-6, 1 - 1e-6)
    marked = (p > 0.5).float()
    logits = torch.logit(p).flatten(1)
    top = logits.topk(max(1, int(_TOP * logits.shape[1])), 1).values.mean(1)
    share = marked.mean((1, 2)).clamp(min=_LEAST_SHARE).log()
    support_share = masks.float().mean((1, 2, 3)).clamp(min=_LEAST_SHARE).log()
    values = [expected_iou(p, marked), top, p.mean((1, 2)), share, support_share, (share - support_share).abs()]
    values += [logits.std(1), (2 * p - 1).abs().mean((1, 2))]
    return torch.stack([*values, *_similarities(p, query.float(), supports.float(), masks)], 1).cpu()


def _similarities(p: Tensor, query: Tensor, supports: Tensor, masks: Tensor) -> list[Tensor]:
    """Return cosines to the object and to the scene of the supports, six times ``[B]``.

    They are those of the marked part, of the picture and of its most similar part.
    """
    weights = F.interpolate(masks.flatten(0, 1)[:, None].float(), supports.shape[-2:], mode="area")
    # The most probable cells stand for the marked part where nothing is marked.
    marked = p * (p >= p.flatten(1).amax(1).clamp(max=0.5)[:, None, None])
    marked = F.interpolate(marked[:, None], query.shape[-2:], mode="area")
    side = min(_WINDOW, *query.shape[-2:])
    parts = F.avg_pool2d(query, side, 1)
    values = []
    for part in (weights, 1 - weights):
        shots = _pooled(supports, part).reshape(*masks.shape[:2], -1)
        mean = F.normalize(shots, dim=2).mean(1)
        values += [F.cosine_similarity(each, mean) for each in (_pooled(query, marked), query.mean((2, 3)))]
        values.append(F.cosine_similarity(parts, mean[:, :, None, None]).flatten(1).amax(1))
    return values


def _pooled(maps: Tensor, weights: Tensor) -> Tensor:
    """Average maps ``[N,C,h,w]`` with weights ``[N,1,h,w]``: ``[N,C]``."""
    return (maps * weights).sum((2, 3)) / weights.sum((2, 3)).clamp(min=1e-6)


@settings
class Calibration:
    """A few numbers that turn the signals of an answer into an expected IoU and a probability of presence."""

    center: tuple[float, ...]
    """Mean of each signal."""
    scale: tuple[Annotated[float, Ge(1e-6)], ...]
    """Deviation of each signal."""
    iou_weights: tuple[float, ...]
    """Weight of each standardised signal in the score of the IoU."""
    iou_scores: tuple[float, ...]
    """Scores at which the expected IoU is known, in ascending order; it is linear between them."""
    ious: tuple[Annotated[float, Ge(0), Le(1)], ...]
    """Expected IoU at each of these scores."""
    presence_weights: tuple[float, ...]
    """Weight of each standardised signal in the log odds of presence."""
    presence_bias: float
    """Log odds of presence of an average answer."""
    threshold: Annotated[float, Ge(0), Le(1)]
    """Probability of presence below which the mask is to be empty."""
    source: str
    """What the numbers were fitted on; empty: they were not."""

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            ValueError: a tuple does not have a number per signal, or the scores do not match the IoUs.
        """
        for name in ("center", "scale", "iou_weights", "presence_weights"):
            if (count := len(getattr(self, name))) != len(SIGNALS):
                raise ValueError(f"{name} has {count} numbers; a calibration has {len(SIGNALS)}, one for each signal")
        scores = self.iou_scores
        if not scores or len(scores) != len(self.ious) or list(scores) != sorted(scores):
            raise ValueError("iou_scores must be in ascending order, and as many as ious, at least one")

    def confidence(self, signals: Tensor) -> Values:
        """Return the expected IoU of answers with signals ``[B,S]``: float64 ``[B]`` in 0..1."""
        scores = self.standardized(signals) @ np.array(self.iou_weights)
        return np.asarray(np.interp(scores, self.iou_scores, self.ious))

    def presence(self, signals: Tensor) -> Values:
        """Return the probability that the object is in the query, as likely as not before: float64 ``[B]`` in 0..1."""
        log_odds = self.standardized(signals) @ np.array(self.presence_weights) + self.presence_bias
        return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -50, 50))))

    def standardized(self, signals: Tensor) -> Values:
        """Return signals ``[B,S]`` in deviations from their means: float64 ``[B,S]``."""
        return standardize(signals.double().numpy(), np.array(self.center), np.array(self.scale))


UNCALIBRATED = Calibration(
    center=(0.0,) * len(SIGNALS),
    scale=(1.0,) * len(SIGNALS),
    iou_weights=(1.0,) + (0.0,) * (len(SIGNALS) - 1),
    iou_scores=(0.0, 1.0),
    ious=(0.0, 1.0),
    presence_weights=(0.0,) * len(SIGNALS),
    presence_bias=0.0,
    threshold=0.0,
    source="",
)
"""Leaves the expected IoU as the probabilities give it, knows nothing about presence, and empties no mask."""


def standardize(signals: Values, center: Values, scale: Values) -> Values:
    """Return signals in deviations from their means, cut off where they are far from them."""
    return np.asarray(np.clip((signals - center) / scale, -_LARGEST, _LARGEST))


def parse_calibration(values: Any, what: str) -> Calibration:
    """Return the calibration that a JSON value describes.

    Args:
        values: the value.
        what: its origin, for the error.

    Raises:
        ValueError: it describes none.
    """
    if not isinstance(values, dict):
        raise ValueError(f"the calibration in {what} must be an object, got {values!r:.80}")
    try:
        return from_dict(Calibration, values)
    except ValueError as error:
        raise ValueError(f"the calibration in {what} is invalid: {error}") from error
