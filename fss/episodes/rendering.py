"""Batched rendering of augmented views from canvases and masks, on the device of the tensors.

One affine grid per view warps image and mask together. Changes of the colours and ImageNet normalisation follow. Beyond
its border the image is reflected; a rotated crop shows the image outside of the crop.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import UInt8
from fss.episodes.augmentation import AFFINE
from fss.episodes.colours import change_colours, constant
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD


def render(images: Tensor, masks: Tensor, views: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Render a batch of views.

    Args:
        images: square RGB canvases, uint8 [B, 3, C, C].
        masks: masks of any values, uint8 [B, C, C]; they are warped by nearest neighbour.
        views: views, float32 [B, 21]; see ``augmentation.View``. On the CPU they save a GPU from waiting for the host.
        size: side of the views in pixels.

    Returns:
        ImageNet-normalised images, float32 [B, 3, size, size], and masks, uint8 [B, size, size].
    """
    device = images.device
    if bool((views[:, AFFINE] == views.new_tensor([1, 0, 0, 0, 1, 0])).all()) and images.shape[-1] == size:
        pictures, warped = images.float() / 255, masks.clone()
    else:
        affine = views[:, AFFINE].view(-1, 2, 3).to(device, non_blocking=True)
        grid = F.affine_grid(affine, [len(views), 1, size, size], align_corners=False)
        pictures = _sample(images.float() / 255, grid, "bilinear")
        warped = _sample(masks[:, None].float(), grid, "nearest")[:, 0].to(torch.uint8)
    return normalize_imagenet(change_colours(pictures, views)), warped


def canvas_batch(canvases: Sequence[UInt8], device: torch.device | None = None) -> Tensor:
    """Return canvases, N times uint8 [S, S, 3], as the input of a network, ImageNet-normalised float32 [N, 3, S, S]."""
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(canvases)))
    return normalize_imagenet(stacked.to(device).permute(0, 3, 1, 2).float() / 255)


def normalize_imagenet(pictures: Tensor) -> Tensor:
    """Normalise images, float [B, 3, H, W] in [0, 1], with the ImageNet mean and standard deviation."""
    mean, std = constant(IMAGENET_MEAN, pictures), constant(IMAGENET_STD, pictures)
    return (pictures - mean[:, None, None]) / std[:, None, None]


def _sample(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode="reflection", align_corners=False)
