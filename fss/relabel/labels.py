"""From votes to a mask, its soft agreement, and every score that can be told without labels."""

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
    """All that was said of a picture, on its canvas of S pixels a side."""

    votes: Mapping[int, Float32]
    """By class id (one id where the object may be anything): [V,R,S,S] by view, the plain one first, and support
    set. Without a class nothing was found to be there."""
    earlier: Sequence[Mapping[int, Float32]]
    """The same of each earlier checkpoint, for the plain view alone."""
    current: Mask | None
    """The mask it had, [S,S] in {0,1,255}."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """A new mask."""

    mask: Mask
    """uint8 [H,W]: 0 background, v is ``classes[v - 1]``, 255 ignored."""
    classes: list[int]
    """Class ids."""
    soft: Float32
    """float32 [H,W]: mean probability of the object over all votes."""
    scores: dict[str, float | bool]
    """Raw values and gates; what cannot be told (agreement on nothing, no earlier mask) is left out."""


def make_label(ballot: VoteSet, shape: tuple[int, int], config: RelabelConfig, guide: UInt8 | None = None) -> Label:
    """Count the votes.

    A pixel is object where the mean probability of a class is at least ``config.foreground``, background where that of
    every class is below ``config.background``, else ignored. Where the two likeliest classes are closer than
    ``config.margin`` it is ignored too.

    Args:
        ballot: what was said.
        shape: height and width of the picture.
        config: thresholds.
        guide: the picture, uint8 [h,w,3], whose edges the mask shall follow; None: none.
    """
    ids = sorted(ballot.votes)
    height, width = shape
    means = [ballot.votes[c].mean((0, 1)) for c in ids]
    sharp = means if guide is None else [follow_edges(mean, guide) for mean in means]
    means = [np.asarray(cv2.resize(mean, (width, height))) for mean in sharp]
    stack = np.stack(means) if means else np.zeros((1, height, width), np.float32)
    soft = stack.max(0)
    mask = (stack.argmax(0) + 1).astype(np.uint8)
    mask[soft < config.foreground] = IGNORE
    if len(stack) > 1:
        second, first = np.partition(stack, -2, axis=0)[-2:]
        mask[first - second < config.margin] = IGNORE
    mask[soft < config.background] = 0
    shown = [value for value in range(1, len(ids) + 1) if (mask == value).any()]
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    table[shown] = np.arange(1, len(shown) + 1)
    mask = np.asarray(cv2.LUT(mask, table), np.uint8)
    scores = reliability(ballot, (config.foreground + config.background) / 2) | _shape_scores(
        (mask > 0) & (mask < IGNORE)
    )
    return Label(mask=mask, classes=[ids[value - 1] for value in shown], soft=soft, scores=scores)


def reliability(ballot: VoteSet, threshold: float) -> dict[str, float | bool]:
    """How far the votes agree: by view, by support set, with earlier checkpoints and with the mask of before.

    Args:
        ballot: what was said.
        threshold: mean probability above which a pixel counts as object where masks are compared.
    """
    found: dict[str, float | None] = {"view": None, "support": None, "checkpoint": None, "previous": None}
    if ballot.votes:
        votes = _any_class(ballot.votes)
        mask, plain = votes.mean((0, 1)) > threshold, votes[0].mean(0) > threshold
        found["view"] = agreement_with(mask, list(votes.mean(1) > threshold))
        found["support"] = pairwise_agreement(list(votes.mean(0) > threshold))
        others = [_any_class(earlier)[0].mean(0) > threshold for earlier in ballot.earlier]
        found["checkpoint"] = agreement_with(plain, others)
        if ballot.current is not None:
            found["previous"] = foreground_iou(mask, ballot.current == 1, ballot.current != IGNORE)
    return {name: value for name, value in found.items() if value is not None}


def _any_class(votes: Mapping[int, Float32]) -> Float32:
    return np.max([votes[c] for c in sorted(votes)], axis=0)  # type: ignore[no-any-return]


def _shape_scores(mask: npt.NDArray[np.bool_]) -> dict[str, float | bool]:
    return {"area": float(mask.mean()), "border": border_touch(mask), **gates(mask, refined=False)}
