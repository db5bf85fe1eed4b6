"""Rules that combine the K shots of an episode into one mask.

================  =========================================================================================
vote_published    foreground where at least half of the image's largest number of votes are for foreground
mean_probability  the class with the larger mean of the K probabilities
joint             the learner sees all supports at once, and nothing needs to be combined
================  =========================================================================================

``vote_published`` is the rule of HSNet, ASNet and VAT: each shot votes with its own mask, and the votes are divided by
the largest number of votes at any pixel of the image, not by K. ``joint`` is the default. With five shots, HSNet and
ASNet gain most from it, the rules agree for MaskSplit, and VAT loses half a point (tests/benchmarks/bench_learners.py);
the learner also runs once instead of K times. Dividing the votes by K and averaging the logits were not better than
these.
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
    """Turn the logits ``[B,K,2,H,W]`` of K shots, or ``[B,2,H,W]`` of ``joint``, into masks ``[B,H,W]`` of 0 and 1."""
    if fusion == "joint":
        return logits.argmax(1)
    return FUSIONS[fusion](logits).long()


def check_fusion(fusion: str) -> None:
    """Check the name of a rule.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if fusion not in get_args(Fusion):
        raise ValueError(f"unknown fusion {fusion!r}; choose one of {', '.join(get_args(Fusion))}")
