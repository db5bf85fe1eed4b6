"""Batched rendering of augmented views from canvases and masks, on the device of the tensors.

One affine grid per view warps image and mask together. Colour jitter, blur, grey and ImageNet normalisation follow, in
this order. Beyond its border the image is reflected; a rotated crop shows the image outside of the crop.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fss.episodes.augmentation import AFFINE, BLUR, COLOUR, GREY

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LUMINANCE = (0.299, 0.587, 0.114)
_LARGEST_KERNEL = 7


def render(images: Tensor, masks: Tensor, views: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Render a batch of views.

    Args:
        images: square RGB canvases, uint8 [B, 3, C, C].
        masks: masks of any values, uint8 [B, C, C]; they are warped by nearest neighbour.
        views: views, float32 [B, 12]; see ``augmentation.View``. On the CPU they save a GPU from waiting for the host.
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
    pictures = _where(pictures, (views[:, COLOUR] != views.new_tensor([1, 1, 1, 0])).any(1), views[:, COLOUR], _jitter)
    pictures = _where(pictures, views[:, BLUR] > 0, views[:, BLUR], _blur)
    pictures = _where(pictures, views[:, GREY] > 0, views[:, GREY], lambda x, _: _grey(x).expand(-1, 3, -1, -1))
    return normalize_imagenet(pictures), warped


def normalize_imagenet(pictures: Tensor) -> Tensor:
    """Normalise images, float [B, 3, H, W] in [0, 1], with the ImageNet mean and standard deviation."""
    mean, std = _constant(IMAGENET_MEAN, pictures), _constant(IMAGENET_STD, pictures)
    return (pictures - mean[:, None, None]) / std[:, None, None]


def _sample(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode="reflection", align_corners=False)


def _where(x: Tensor, rows: Tensor, settings: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply ``change`` to the selected rows of a batch only."""
    index = rows.nonzero()[:, 0]
    if not len(index):
        return x
    selected, index = settings[index].to(x.device, non_blocking=True), index.to(x.device, non_blocking=True)
    return x.index_copy(0, index, change(x[index], selected))


def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Return the values on the device of ``like``, whose host does not wait for the copy."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _grey(x: Tensor) -> Tensor:
    return (x * _constant(_LUMINANCE, x)[:, None, None]).sum(1, keepdim=True)


def _jitter(x: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of images [B, 3, H, W] by factors [B, 4], in this order."""
    brightness, contrast, saturation, hue = factors[:, :, None, None, None].unbind(1)
    x = (x * brightness).clamp(0, 1)
    x = (x * contrast + _grey(x).mean((2, 3), keepdim=True) * (1 - contrast)).clamp(0, 1)
    x = (x * saturation + _grey(x) * (1 - saturation)).clamp(0, 1)
    return _shift_hue(x, hue)


def _shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Shift the hue of RGB in [0, 1] by ``turns`` [B, 1, 1, 1] of the colour circle; saturation and value stay."""
    value, low = x.amax(1), x.amin(1)
    span = value - low
    red, green, blue = x.unbind(1)
    safe = torch.where(span > 0, span, 1)
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sextant = sextant + 6 * turns[:, 0]
    # HSV to RGB in closed form: a channel equals `value` except for a dip of `span` around the opposite hue.
    channels = []
    for offset in (5, 3, 1):
        position = (offset + sextant) % 6
        channels.append(value - span * torch.minimum(position, 4 - position).clamp(0, 1))
    return torch.stack(channels, 1)


def _blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Blur each image with its own Gaussian, whose standard deviation follows from the side of the kernel."""
    offsets = torch.arange(_LARGEST_KERNEL, device=x.device, dtype=x.dtype) - _LARGEST_KERNEL // 2
    sigma = 0.3 * ((kernels - 1) * 0.5 - 1) + 0.8
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2) * (offsets.abs() <= (kernels[:, None] - 1) / 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    batch, _, height, width = x.shape
    edge = _LARGEST_KERNEL // 2
    flat = F.pad(x, (edge, edge, edge, edge), mode="reflect").reshape(1, batch * 3, height + 2 * edge, width + 2 * edge)
    flat = F.conv2d(flat, weights[:, :, :, None], groups=batch * 3)
    return F.conv2d(flat, weights[:, :, None, :], groups=batch * 3).view(batch, 3, height, width)
