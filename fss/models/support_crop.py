"""Supports seen around their object: crops with context, which show small objects larger."""

import torch
from torch import Tensor
from torch.nn import functional as F

_CONTEXT = 0.5  # of the object's extent, on each side
_LEAST_SHARE = 1 / 8  # of the picture's side, which limits the enlargement


def crop_supports(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cut images and masks around their objects, and resize the crops to the size of the images.

    A crop has half of the object's height above and below it and half of its width at its sides, within the picture.
    Without an object the crop is the whole picture.

    Args:
        images: ``[N,3,H,W]``.
        masks: ``[N,H,W]``, 0 and 1.

    Returns:
        The crops ``[N,3,H,W]``, and their masks ``[N,H,W]`` in 0..1.
    """
    present = masks > 0
    centre_y, scale_y = _window(present.any(2).to(images.dtype))
    centre_x, scale_x = _window(present.any(1).to(images.dtype))
    none = torch.zeros_like(centre_x)
    theta = torch.stack([torch.stack([scale_x, none, centre_x], 1), torch.stack([none, scale_y, centre_y], 1)], 1)
    both = torch.cat([images, masks[:, None].to(images.dtype)], 1)
    grid = F.affine_grid(theta, list(both.shape), align_corners=False)
    cropped = F.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cropped[:, :-1], cropped[:, -1]


def _window(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centre and half the length of the window ``[N]`` along an axis, which runs from -1 to 1.

    Args:
        occupied: 1 where the object is, else 0, ``[N,length]``.
    """
    length = occupied.shape[1]
    first = occupied.argmax(1).to(occupied.dtype)  # 0 where there is no object
    last = length - occupied.flip(1).argmax(1).to(occupied.dtype)
    margin = torch.maximum((last - first) * _CONTEXT, (_LEAST_SHARE * length - (last - first)) / 2)
    low, high = (first - margin).clamp(min=0), (last + margin).clamp(max=length)
    return (low + high) / length - 1, (high - low) / length
