"""Losses over pixels, the same whatever the number of workers and passes they are spread over."""

import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import IGNORE


def cross_entropy_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, summed over the valid pixels.

    Args:
        logits: float [B, C, H, W]; of an episode background and foreground.
        target: long [B, H, W] in 0 .. C - 1, or 255 where a pixel is ignored.
    """
    return F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="sum")


def count_valid_pixels(target: Tensor) -> Tensor:
    """Return the number of valid pixels of all workers, at least 1.

    A worker differentiates its sum times ``world_size() / valid_pixels``: gradients that DistributedDataParallel
    averages over the workers are then those of the mean over all valid pixels.

    Args:
        target: long [B, H, W], all that this worker sees in a step.
    """
    return sum_over_workers((target != IGNORE).sum()).clamp(min=1)


def sum_over_workers(value: Tensor) -> Tensor:
    """Return the sum of a value over all workers."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def world_size() -> int:
    """Return the number of workers that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
