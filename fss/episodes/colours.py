"""Changes of the colours of a batch of images, on its device: the tones of VAT, jitter, blur and grey.

VAT (Hong et al., 2021) changes the tones of query and supports as CATs (Cho et al., NeurIPS 2021) does, with the
operations of Albumentations 1.1 at their default strengths. A changed image has 256 levels per channel after each of
them, as there.
"""

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from fss.episodes.augmentation import BLUR, COLOUR, GREY, ORDER, TONES

_LUMINANCE = (0.299, 0.587, 0.114)
_LARGEST_KERNEL = 7
_LEVELS = 256
_POSTERIZED = 16  # levels of a channel that keeps its upper 4 bits
_SOLARIZED = 128  # levels from here on are inverted
_ORDERS = tuple(itertools.permutations(range(4)))


def change_colours(pictures: Tensor, views: Tensor) -> Tensor:
    """Change the tones of each image, then jitter, blur and grey it, as its view says.

    Args:
        pictures: RGB, float [B, 3, H, W] in [0, 1].
        views: views, float32 [B, 21]; see ``augmentation.View``. On the CPU they save a GPU from waiting for the host.
    """
    pictures = _where(pictures, (views[:, TONES] != 0).any(1), views[:, TONES], _change_tones)
    jittered = (views[:, COLOUR] != views.new_tensor([1, 1, 1, 0])).any(1)
    for number in sorted(set(views[jittered, ORDER].int().tolist())):
        rows = jittered & (views[:, ORDER] == number)
        pictures = _where(pictures, rows, views[:, COLOUR], partial(_jitter, order=_ORDERS[number]))
    pictures = _where(pictures, views[:, BLUR] > 0, views[:, BLUR], _blur)
    return _where(pictures, views[:, GREY] > 0, views[:, GREY], lambda x, _: _grey(x).expand(-1, 3, -1, -1))


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Return the values on the device of ``like``, whose host does not wait for the copy."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _where(x: Tensor, rows: Tensor, settings: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply ``change`` to the selected rows of a batch only."""
    index = rows.nonzero()[:, 0]
    if not len(index):
        return x
    selected, index = settings[index].to(x.device, non_blocking=True), index.to(x.device, non_blocking=True)
    return x.index_copy(0, index, change(x[index], selected))


def _change_tones(x: Tensor, tones: Tensor) -> Tensor:
    """Apply VAT's changes in the published order; ``tones`` [B, 8] are 0 for a change that an image does not get."""
    grey, posterize, equalize, alpha, lightness, contrast, brightness, solarize = tones[:, :, None, None, None].unbind(
        1
    )
    x = (x * (_LEVELS - 1)).round()
    x = torch.where(grey > 0, _grey(x).round(), x)
    x = torch.where(posterize > 0, (x / _POSTERIZED).floor() * _POSTERIZED, x)
    x = torch.where(equalize > 0, _equalize(x), x)
    x = _levels(_sharpen(x, alpha, lightness))
    x = _levels(x * (1 + contrast) + brightness * (_LEVELS - 1))
    x = torch.where((solarize > 0) & (x >= _SOLARIZED), _LEVELS - 1 - x, x)
    return x / (_LEVELS - 1)


def _levels(x: Tensor) -> Tensor:
    return x.round().clamp(0, _LEVELS - 1)


def _equalize(x: Tensor) -> Tensor:
    """Spread the levels of each channel evenly, as ``cv2.equalizeHist`` does; a channel of one level stays."""
    flat = x.flatten(2).long()
    counts = flat.new_zeros(*flat.shape[:2], _LEVELS).scatter_add(2, flat, torch.ones_like(flat))
    lowest = counts.gather(2, (counts > 0).byte().argmax(2, keepdim=True))
    others = flat.shape[2] - lowest
    table = _levels((counts.cumsum(2) - lowest).float() * ((_LEVELS - 1.0) / others.clamp(min=1)))
    return torch.where(others[..., None] > 0, table.gather(2, flat).view_as(x), x)


def _sharpen(x: Tensor, alpha: Tensor, lightness: Tensor) -> Tensor:
    """Add the share ``alpha`` of 8 + lightness times each pixel minus its 8 neighbours."""
    around = 9 * F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)  # with the pixel itself
    return (1 - alpha) * x + alpha * ((9 + lightness) * x - around)


def _grey(x: Tensor) -> Tensor:
    return (x * constant(_LUMINANCE, x)[:, None, None]).sum(1, keepdim=True)


def _jitter(x: Tensor, factors: Tensor, order: tuple[int, ...]) -> Tensor:
    """Change brightness (0), contrast (1), saturation (2) and hue (3) of images [B, 3, H, W] by factors [B, 4]."""
    brightness, contrast, saturation, hue = factors[:, :, None, None, None].unbind(1)
    changes: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: (x * brightness).clamp(0, 1),
        lambda x: (x * contrast + _grey(x).mean((2, 3), keepdim=True) * (1 - contrast)).clamp(0, 1),
        lambda x: (x * saturation + _grey(x) * (1 - saturation)).clamp(0, 1),
        lambda x: _shift_hue(x, hue),
    )
    for number in order:
        x = changes[number](x)
    return x


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
