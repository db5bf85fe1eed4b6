"""Losses of the three-stage framework: means over valid pixels that do not depend on the number of workers."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fss.training.losses import count_valid_pixels, cross_entropy_sum
from fss.training.workers import sum_over_workers, world_size


class PixelLoss(NamedTuple):
    """A loss for differentiation and its value for reports."""

    local: Tensor
    """Scalar; DistributedDataParallel averages its gradients over the workers to those of ``mean``."""
    mean: Tensor
    """Scalar without gradient: the mean over the valid pixels of all workers."""


def pixel_loss(logits: Tensor, target: Tensor) -> PixelLoss:
    """Return the mean cross-entropy over the valid pixels of all workers.

    Args:
        logits: float [B,C,H,W].
        target: integers [B,H,W] in 0 .. C - 1, or 255 for ignored pixels.
    """
    total, count = cross_entropy_sum(logits, target.long()), count_valid_pixels(target)
    return PixelLoss(total * world_size() / count, sum_over_workers(total.detach()) / count)


class StageTargets(NamedTuple):
    """The targets of stages 2 and 3, uint8 with 255 ignored, for B_l labelled pictures and then B_u of the pool."""

    truth: Tensor
    """[B_l,H,W], the labels of the labelled pictures."""
    teacher: Tensor
    """[B_l+B_u,H,W], the teacher's predictions, warped like the student's pictures."""
    pseudo: Tensor
    """[B_l+B_u,H,W], the pseudo-labels of the previous stage, warped in the same way."""


def stage_loss(
    main: Tensor, auxiliary: Tensor, targets: StageTargets, weights: Mapping[str, float]
) -> tuple[PixelLoss, dict[str, float]]:
    """Return the weighted sum of the three cross-entropies of stages 2 and 3 (Ke et al., IEEE TIP 2022).

    Args:
        main: logits [B_l+B_u,C,H,W] of the main head, which never learns from the previous stage's pseudo-labels.
        auxiliary: logits [B_l+B_u,C,H,W] of the auxiliary head, which never learns from the true labels.
        targets: the targets of both heads.
        weights: the weights of ``supervised``, ``consistency`` and ``pseudo``.

    Returns:
        The loss, and its parts before weighting.
    """
    parts = {
        "supervised": pixel_loss(main[: len(targets.truth)], targets.truth),
        "consistency": pixel_loss(main, targets.teacher),
        "pseudo": pixel_loss(auxiliary, targets.pseudo),
    }
    local = torch.stack([weights[name] * part.local for name, part in parts.items()]).sum()
    mean = torch.stack([weights[name] * part.mean for name, part in parts.items()]).sum()
    return PixelLoss(local, mean), {name: float(part.mean) for name, part in parts.items()}
