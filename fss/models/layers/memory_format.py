"""The memory format in which convolutions run fastest."""

import torch
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """Return images ``[N,C,H,W]`` with their channels last in memory, if they are on a CPU and not exported.

    Convolutions and resizes of few channels then take two thirds of their time.
    """
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return images
    return images.contiguous(memory_format=torch.channels_last)
