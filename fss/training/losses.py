"""The loss of a batch of episodes, the same whatever the number of workers it is spread over."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


class EpisodeLoss(NamedTuple):
    """A loss to differentiate, and its value for people."""

    local: Tensor
    """Scalar; its gradients, averaged over the workers as DistributedDataParallel does, are those of ``mean``."""
    mean: Tensor
    """Scalar without gradient: the mean cross-entropy over the valid pixels of all workers."""


def episode_loss(logits: Tensor, target: Tensor) -> EpisodeLoss:
    """Two-class cross-entropy: the sum over valid pixels, divided by their number over all workers.

    Args:
        logits: float [B, 2, H, W], background and foreground.
        target: long [B, H, W] in {0, 1, 255}; 255 is ignored.
    """
    total = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="sum")
    sums = torch.stack([total.detach(), (target != IGNORE).sum().to(total.dtype)])
    world = 1
    if dist.is_available() and dist.is_initialized():
        world = dist.get_world_size()
        dist.all_reduce(sums)
    count = sums[1].clamp(min=1)
    return EpisodeLoss(total * world / count, sums[0] / count)
