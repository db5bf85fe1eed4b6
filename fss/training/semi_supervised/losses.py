"""Losses of the three-stage framework: means over valid pixels, the same on any number of workers."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fss.training.losses import count_valid_pixels, cross_entropy_sum, sum_over_workers, world_size


class PixelLoss(NamedTuple):
    """A loss to differentiate, and its value for people."""

    local: Tensor
    """Scalar; its gradients, averaged over the workers as DistributedDataParallel does, are those of ``mean``."""
    mean: Tensor
    """Scalar without gradient: the mean over the valid pixels of all workers."""


def pixel_loss(logits: Tensor, target: Tensor) -> PixelLoss:
    """Cross-entropy: the sum over valid pixels, divided by their number over all workers.

    Args:
        logits: float [B,C,H,W].
        target: integers [B,H,W], 0 .. C - 1 and 255 for ignored pixels.
    """
    total, count = cross_entropy_sum(logits, target.long()), count_valid_pixels(target)
    return PixelLoss(total * world_size() / count, sum_over_workers(total.detach()) / count)


class StageTargets(NamedTuple):
    """What stages 2 and 3 learn from, labelled pictures first, then the pool's; all uint8, 255 ignored."""

    truth: Tensor
    """[B_l,H,W] of the labelled pictures."""
    teacher: Tensor
    """[B_l+B_u,H,W] hard answers of the teacher, moved like the student's pictures."""
    pseudo: Tensor
    """[B_l+B_u,H,W] masks of the stage before, moved likewise; also for labelled pictures."""


def stage_loss(
    main: Tensor, auxiliary: Tensor, targets: StageTargets, weights: Mapping[str, float]
) -> tuple[PixelLoss, dict[str, float]]:
    """Weigh the three cross-entropies of stages 2 and 3.

    Args:
        main: logits of the main head [B_l+B_u,C,H,W]; it never has a mask of the stage before as its target.
        auxiliary: logits of the auxiliary head, the same shape; it never has the truth as its target.
        targets: what they are compared with.
        weights: of ``supervised``, ``consistency`` and ``pseudo``.

    Returns:
        The loss, and its unweighted parts.
    """
    parts = {
        "supervised": pixel_loss(main[: len(targets.truth)], targets.truth),
        "consistency": pixel_loss(main, targets.teacher),
        "pseudo": pixel_loss(auxiliary, targets.pseudo),
    }
    local = torch.stack([weights[name] * part.local for name, part in parts.items()]).sum()
    mean = torch.stack([weights[name] * part.mean for name, part in parts.items()]).sum()
    return PixelLoss(local, mean), {name: float(part.mean) for name, part in parts.items()}
