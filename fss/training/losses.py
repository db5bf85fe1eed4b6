"""Pixel losses that do not depend on the number of workers, or of passes per step."""

from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import IGNORE
from fss.training.workers import sum_over_workers


def cross_entropy_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy, summed over the valid pixels.

    Args:
        logits: float [B, C, H, W]; for an episode, the classes are background and foreground.
        target: long [B, H, W] in 0 .. C - 1, or 255 for ignored pixels.
    """
    return F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="sum")


def count_valid_pixels(target: Tensor) -> Tensor:
    """Return the number of valid pixels of all workers, but at least 1.

    A worker multiplies the sum of its losses by ``world_size()`` and divides it by this number. The gradients, which
    DistributedDataParallel averages over the workers, are then those of the mean over all valid pixels.

    Args:
        target: integers [B, H, W], all targets of this worker in a step; 255 is ignored.
    """
    return sum_over_workers((target != IGNORE).sum()).clamp(min=1)
