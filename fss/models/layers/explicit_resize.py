"""Resize masks and images, in an exported program by matrices of PyTorch's own weights.

On some grids, such as the 50 x 50 cells of a 400-pixel mask, rounding decides whether the weight of a border cell is 0
or 1e-5. Hybrid masking and ASNet's attention depend on exactly that, and the nearest pixel of MaskSplit's resize is a
matter of rounding too. Other runtimes round otherwise, and OpenVINO 2026.4 shrinks images without antialiasing, though
the program asks for it. So an exported program multiplies by matrices of weights, which are constants in it, computed
here in float32 as PyTorch's kernels do.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import Float32
from fss.models.features import resize

Mode = Literal["bilinear", "nearest", "area", "antialiased"]


def resize_masks(
    masks: Tensor, size: Sequence[int], mode: Literal["bilinear", "nearest", "area"] = "bilinear"
) -> Tensor:
    """Resize masks ``[N,H,W]`` to ``[N,1,h,w]``, float32; ``bilinear`` aligns the corners."""
    planes = masks[:, None].float()
    if torch.compiler.is_exporting():
        return _multiplied(planes, size, mode)
    return resize(planes, size) if mode == "bilinear" else F.interpolate(planes, tuple(size), mode=mode)


def resize_images(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images ``[N,3,H,W]`` to ``[N,3,h,w]``, bilinear and antialiased."""
    if torch.compiler.is_exporting():
        return _multiplied(images, size, "antialiased")
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _multiplied(planes: Tensor, size: Sequence[int], mode: Mode) -> Tensor:
    rows, columns = (
        torch.from_numpy(resize_weights(*sides, mode)).to(planes.device)
        for sides in zip(planes.shape[-2:], size, strict=True)
    )
    return rows @ planes @ columns.T


def resize_weights(length: int, result: int, mode: Mode) -> Float32:
    """Return the weights ``[result,length]`` of the pixels along one axis."""
    weights, cells = np.zeros((result, length), np.float32), np.arange(result)
    if mode == "area":
        for cell in cells:
            first, last = cell * length // result, -(-(cell + 1) * length // result)
            weights[cell, first:last] = 1 / (last - first)
    elif mode == "nearest":
        position = np.float32(length) / np.float32(result) * cells.astype(np.float32)
        weights[cells, np.minimum(position.astype(int), length - 1)] = 1
    elif mode == "antialiased":
        scale = np.float32(length) / np.float32(result)
        centers = scale * (cells[:, None].astype(np.float32) + np.float32(0.5))
        distance = np.arange(length, dtype=np.float32) - centers + np.float32(0.5)
        triangle = np.maximum(1 - np.abs(distance) / max(scale, np.float32(1)), 0)
        weights[:] = triangle / triangle.sum(1, keepdims=True)
    else:
        scale = np.float32(length - 1) / np.float32(result - 1) if result > 1 else np.float32(0)
        position = scale * cells.astype(np.float32)
        below = np.minimum(position.astype(int), length - 1)
        share = np.clip(position - below.astype(np.float32), 0, 1)
        weights[cells, np.minimum(below + 1, length - 1)] += share
        weights[cells, below] += 1 - share
    return weights
