"""Fusing K one-shot predictions of a query into one mask.

================  =========================================================================================
vote_published    each shot's decision is a vote; foreground where the votes reach half of the image's largest count
mean_probability  decision of the mean of the K probabilities
joint             the learner itself sees all supports at once (no fusion afterwards)
================  =========================================================================================

``vote_published`` is the rule of HSNet, ASNet and VAT: its divisor is the largest vote in that image, not K. ``joint``
is the default: with HSNet and ASNet five shots gain most from it, with MaskSplit all agree, VAT loses half a point
(tests/benchmarks/bench_learners.py), and the learner compares once instead of K times. K as the vote's divisor and the
mean of the logits were measured too and earn nothing beside these.
"""

from collections.abc import Callable
from typing import get_args

from torch import Tensor

from fss.models.config import Fusion


def _vote_published(logits: Tensor) -> Tensor:
    votes = logits.argmax(2).sum(1)
    return votes / votes.amax((1, 2), keepdim=True).clamp(min=1) >= 0.5


def _mean_probability(logits: Tensor) -> Tensor:
    return logits.float().softmax(2).mean(1).argmax(1)


FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "vote_published": _vote_published,
    "mean_probability": _mean_probability,
}


def fuse(logits: Tensor, fusion: Fusion) -> Tensor:
    """Fuse the logits ``[B,K,2,H,W]`` of K shots into masks, long ``[B,H,W]`` of 0 and 1."""
    return FUSIONS[fusion](logits).long()


def check_fusion(fusion: str) -> None:
    """Raise a ValueError that names the known fusions unless ``fusion`` is one of them."""
    if fusion not in get_args(Fusion):
        raise ValueError(f"unknown fusion {fusion!r}; known are {', '.join(get_args(Fusion))}")
