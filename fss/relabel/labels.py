"""Labels from votes: the new mask, its soft map, and scores that need no ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import IGNORE, Float32, Mask, UInt8
from fss.relabel.config import RelabelConfig
from fss.relabel.edge_refinement import follow_edges
from fss.relabel.reliability import agreement_with, foreground_iou, pairwise_agreement
from fss.saliency.quality import border_touch, gates


@dataclass(frozen=True, kw_only=True)
class VoteSet:
    """All votes on one image, on its canvas of S pixels a side."""

    votes: Mapping[int, Float32]
    """Probabilities of the object by class id, [V,R,S,S] by view (the unchanged image first) and support set. Without
    classes there is one id; the mapping is empty where no class is present."""
    earlier: Sequence[Mapping[int, Float32]]
    """The votes of each earlier checkpoint, [1,R,S,S] by class id: the unchanged image only."""
    current: Mask | None
    """The current mask, [S,S] in {0,1,255}; None where the image has none."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """The new mask of an image."""

    mask: Mask
    """uint8 [H,W]: 0 is background, v is ``classes[v - 1]``, 255 is ignored."""
    classes: list[int]
    """Class ids of the mask's values."""
    soft: Float32
    """float32 [H,W]: probability of the likeliest class, averaged over all votes."""
    scores: dict[str, float | bool]
    """Raw scores and gates. A score that is undefined (no object to agree on, no current mask) is left out."""


def make_label(vote_set: VoteSet, shape: tuple[int, int], config: RelabelConfig, guide: UInt8 | None = None) -> Label:
    """Turn votes into a mask.

    A pixel is object where the mean probability of a class is at least ``config.foreground``, background where that of
    every class is below ``config.background``, and ignored otherwise. It is also ignored where the two likeliest
    classes differ by less than ``config.margin``.

    Args:
        vote_set: the votes.
        shape: height and width of the mask.
        config: thresholds.
        guide: the image, uint8 [h,w,3], whose edges the mask follows; None skips the edge refinement.
    """
    ids = sorted(vote_set.votes)
    height, width = shape
    means = [vote_set.votes[c].mean((0, 1)) for c in ids]
    threshold = (config.foreground + config.background) / 2
    sharp = means if guide is None else [follow_edges(mean, guide, threshold=threshold) for mean in means]
    means = [np.asarray(cv2.resize(mean, (width, height))) for mean in sharp]
    stack = np.stack(means) if means else np.zeros((1, height, width), np.float32)
    soft = stack.max(0)
    mask = (stack.argmax(0) + 1).astype(np.uint8)
    mask[soft < config.foreground] = IGNORE
    if len(stack) > 1:
        second, first = np.partition(stack, -2, axis=0)[-2:]
        mask[first - second < config.margin] = IGNORE
    mask[soft < config.background] = 0
    present = [value for value in range(1, len(ids) + 1) if (mask == value).any()]
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    table[present] = np.arange(1, len(present) + 1)
    mask = np.asarray(cv2.LUT(mask, table), np.uint8)
    scores = reliability(vote_set, threshold) | _shape_scores((mask > 0) & (mask < IGNORE))
    return Label(mask=mask, classes=[ids[value - 1] for value in present], soft=soft, scores=scores)


def reliability(vote_set: VoteSet, threshold: float) -> dict[str, float | bool]:
    """Measure how far the votes agree across views, support sets and checkpoints, and with the current mask.

    Args:
        vote_set: the votes.
        threshold: mean probability above which a pixel counts as object in the masks that are compared.

    Returns:
        Foreground IoUs in [0, 1] as ``view``, ``support``, ``checkpoint`` and ``previous``; undefined ones are left
        out.
    """
    scores: dict[str, float | None] = {"view": None, "support": None, "checkpoint": None, "previous": None}
    if vote_set.votes:
        votes = _any_class(vote_set.votes)
        mask, plain = votes.mean((0, 1)) > threshold, votes[0].mean(0) > threshold
        scores["view"] = agreement_with(mask, list(votes.mean(1) > threshold))
        scores["support"] = pairwise_agreement(list(votes.mean(0) > threshold))
        others = [_any_class(earlier)[0].mean(0) > threshold for earlier in vote_set.earlier]
        scores["checkpoint"] = agreement_with(plain, others)
        if vote_set.current is not None:
            scores["previous"] = foreground_iou(mask, vote_set.current == 1, vote_set.current != IGNORE)
    return {name: value for name, value in scores.items() if value is not None}


def _any_class(votes: Mapping[int, Float32]) -> Float32:
    return np.max([votes[c] for c in sorted(votes)], axis=0)  # type: ignore[no-any-return]


def _shape_scores(mask: npt.NDArray[np.bool_]) -> dict[str, float | bool]:
    return {"area": float(mask.mean()), "border": border_touch(mask), **gates(mask, refined=False)}
