"""Dropout of whole channels whose mask is a function of the episode alone.

torch draws the mask of a batch from one stream of random numbers, so that it depends on the worker, on the passes of a
step and on what ran before. Here the mask is a hash of the episode's key, the layer and the channel. A training then
has the same masks on any number of workers, and after a resume.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MULTIPLIER, _BITS = 0x45D9F3B, 32  # the product of a 32-bit number and the multiplier fits into an int64


class EpisodeDropout2d(nn.Module):
    """Zeroes each channel of images ``[B,C,H,W]`` with probability ``rate`` in training, and scales the others."""

    keys: Tensor | None
    """Key of each episode, int64 ``[B]`` in ``0 .. 2**32 - 1``. None: torch draws the masks."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.keys = rate, None

    def forward(self, x: Tensor, layer: int) -> Tensor:
        """Drop channels; ``layer`` tells apart the layers that share this module."""
        if not self.training:
            return x
        if self.keys is None:
            return F.dropout2d(x, self.rate)
        channels = torch.arange(x.shape[1], device=x.device) + x.shape[1] * layer
        bits = _mix(self.keys[:, None] ^ _mix(channels + 1))
        keep = (bits >= int(self.rate * 2**_BITS)).to(x.dtype) / (1 - self.rate)
        return x * keep[:, :, None, None]


def _mix(bits: Tensor) -> Tensor:
    """Hash 32-bit numbers, stored as int64, by multiplications and shifts."""
    for _ in range(3):
        bits = ((bits ^ (bits >> 16)) * _MULTIPLIER) & (2**_BITS - 1)
    return bits ^ (bits >> 16)
