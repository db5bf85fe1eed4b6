"""Losses of the three-stage framework: means over valid pixels that do not depend on the number of workers."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import IGNORE
from fss.training.losses import count_valid_pixels, cross_entropy_sum
from fss.training.workers import sum_over_workers, world_size


class PixelLoss(NamedTuple):
    """A loss for differentiation and its value for reports."""

    local: Tensor
    """Scalar; DistributedDataParallel averages its gradients over the workers to those of ``mean``."""
    mean: Tensor
    """Scalar without gradient: the mean over the valid pixels of all workers."""


class TeacherTargets(NamedTuple):
    """What the student learns from the teacher, warped and mixed like the student's pictures."""

    labels: Tensor
    """uint8 [B,H,W], the teacher's classes, 255 ignored."""
    weights: Tensor | None = None
    """float [B,H,W], the weight of each pixel; None: all count alike."""
    probabilities: Tensor | None = None
    """float [B,C,H,W], the target instead of ``labels``, which then only say which pixels are ignored."""


class StageTargets(NamedTuple):
    """The targets of stages 2 and 3 for B_l labelled pictures and then B_u of the pool."""

    truth: Tensor
    """uint8 [B_l,H,W], the labels of the labelled pictures, 255 ignored."""
    teacher: TeacherTargets
    """Targets of all pictures, or of the pool alone."""
    pseudo: Tensor
    """uint8 [B_l+B_u,H,W], the pseudo-labels of the previous stage, warped and mixed, 255 ignored."""


def pixel_loss(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> PixelLoss:
    """Return the mean cross-entropy over the valid pixels of all workers.

    Args:
        logits: float [B,C,H,W].
        target: integers [B,H,W] in 0 .. C - 1, or 255 for ignored pixels.
        class_weights: float [C], the weights of the pixels in the mean by their class; None: all count alike.
    """
    if class_weights is None:
        total, count = cross_entropy_sum(logits, target.long()), count_valid_pixels(target)
    else:
        total = F.cross_entropy(logits.float(), target.long(), class_weights, ignore_index=IGNORE, reduction="sum")
        valid = target[target != IGNORE].long()
        count = sum_over_workers(class_weights[valid].sum()).clamp(min=torch.finfo(torch.float32).tiny)
    return _mean(total, count)


def teacher_loss(logits: Tensor, targets: TeacherTargets) -> PixelLoss:
    """Return the mean cross-entropy with the teacher's answers over the valid pixels of all workers.

    Weights do not change the number that the sum is divided by, so that doubtful pictures count less.

    Args:
        logits: float [B,C,H,W].
        targets: the teacher's answers for the same pictures.
    """
    labels, weights, probabilities = targets
    if weights is None and probabilities is None:
        return pixel_loss(logits, labels)
    if probabilities is not None:
        losses = F.cross_entropy(logits.float(), probabilities, reduction="none")
        losses = torch.where(labels == IGNORE, torch.zeros_like(losses), losses)
    else:
        losses = F.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORE, reduction="none")
    if weights is not None:
        losses = losses * weights
    return _mean(losses.sum(), count_valid_pixels(labels))


def stage_loss(
    main: Tensor,
    auxiliary: Tensor | None,
    targets: StageTargets,
    weights: Mapping[str, float],
    class_weights: Tensor | None = None,
) -> tuple[PixelLoss, dict[str, float]]:
    """Return the weighted sum of the losses of stages 2 and 3 (Ke et al., IEEE TIP 2022).

    Args:
        main: logits [B_l+B_u,C,H,W] of the main head, which never learns from the previous stage's pseudo-labels.
        auxiliary: logits [B_l+B_u,C,H,W] of the auxiliary head, which never learns from the true labels; None without
            one.
        targets: the targets of both heads.
        weights: the weights of ``supervised``, ``consistency`` and ``pseudo``.
        class_weights: float [C], the class weights of the supervised loss alone.

    Returns:
        The loss, and its parts before weighting.
    """
    parts = {
        "supervised": pixel_loss(main[: len(targets.truth)], targets.truth, class_weights),
        "consistency": teacher_loss(main[len(main) - len(targets.teacher.labels) :], targets.teacher),
    }
    if auxiliary is not None:
        parts["pseudo"] = pixel_loss(auxiliary, targets.pseudo)
    local = torch.stack([weights[name] * part.local for name, part in parts.items()]).sum()
    mean = torch.stack([weights[name] * part.mean for name, part in parts.items()]).sum()
    return PixelLoss(local, mean), {name: float(part.mean) for name, part in parts.items()}


def _mean(total: Tensor, count: Tensor) -> PixelLoss:
    return PixelLoss(total * world_size() / count, sum_over_workers(total.detach()) / count)
