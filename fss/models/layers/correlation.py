"""Hypercorrelation: cosine similarities between all cells of query and support (Min et al., ICCV 2021, section 4.1).

Four-dimensional volumes are ``[B,hq,wq,hs,ws,C]``: query rows and columns, support rows and columns, channels last. In
this layout, convolutions over the support need no permutation, convolutions over the query move whole channel
vectors, and normalisation and matrix products need no permutation either. A raw correlation has few channels (one per
backbone map) and the layout ``[B,hq,wq,L,hs,ws]``, which the first convolution over the support reads directly.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.features import resize

EPS = 1e-5
_LARGE_STRIDE = 4  # measured on one CPU core, as HSNet's first convolution over the support: half of the time


def l2_normalise(features: Tensor) -> Tensor:
    """Scale ``[B,C,h,w]`` to unit length over the channels: ``f / (|f| + 1e-5)``.

    The norm is computed in float32. Under autocast the result has autocast's dtype, so that the correlation is stored
    in half precision.
    """
    scaled: Tensor = features / (torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float32) + EPS)
    device = features.device.type
    return scaled.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else scaled


def correlate(query: Sequence[Tensor], support: Sequence[Tensor], shots: int = 1) -> Tensor:
    """Correlate the l2-normalised maps of one stage; negative similarities become 0.

    Args:
        query: L maps ``[B,C,hq,wq]``; C may differ between maps.
        support: L maps ``[B * shots,C,hs,ws]``.
        shots: supports per query.

    Returns:
        The raw correlation ``[B * shots,hq,wq,L,hs,ws]``; map 0 is the shallowest.
    """
    (hq, wq), (b, _, hs, ws) = query[0].shape[-2:], support[0].shape
    if shots > 1:
        query = [q.repeat_interleave(shots, 0) for q in query]
    pairs = [(q.flatten(2).transpose(1, 2), s.flatten(2)) for q, s in zip(query, support, strict=True)]
    if torch.compiler.is_compiling() or any(m.requires_grad for m in (*query, *support)):
        volume = torch.stack([torch.bmm(q, s) for q, s in pairs], 2).relu()
    else:
        volume = query[0].new_empty(b, hq * wq, len(pairs), hs * ws)
        for i, (q, s) in enumerate(pairs):
            torch.bmm(q, s, out=volume[:, :, i])
        volume.clamp_(min=0)
    return volume.view(b, hq, wq, len(pairs), hs, ws)


def swap_images(volume: Tensor) -> Tensor:
    """Return a raw correlation ``[B,hq,wq,L,hs,ws]`` as ``[B,hs,ws,L,hq,wq]``, contiguous."""
    b, hq, wq, maps, hs, ws = volume.shape
    if torch.compiler.is_compiling() or volume.device.type != "cpu":
        return volume.permute(0, 4, 5, 3, 1, 2).contiguous()
    # Only a matrix is transposed in blocks that fit the cache; then whole rows move. It takes a third of the time.
    matrices = [each.reshape(hq * wq, -1).t().contiguous().view(maps, hs * ws, hq * wq) for each in volume]
    return torch.stack([matrix.transpose(0, 1) for matrix in matrices]).view(b, hs, ws, maps, hq, wq)


def conv_channels_last(images: Tensor, conv: nn.Conv2d, stride: int = 1) -> Tensor:
    """Convolve images ``[N,h,w,C]`` and return ``[N,h',w',C']``."""
    # A view whose cells are not adjacent would be convolved in the other format.
    y = F.conv2d(images.contiguous().permute(0, 3, 1, 2), conv.weight, conv.bias, stride, conv.padding)
    return y.permute(0, 2, 3, 1)


def conv_channels_first(images: Tensor, conv: nn.Conv2d, stride: int = 1) -> Tensor:
    """Convolve images ``[N,C,h,w]`` and return ``[N,h',w',C']``."""
    assert not isinstance(conv.padding, str)
    return convolve_channels_first(images, conv.weight, conv.bias, stride, conv.padding)


def convolve_channels_first(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int | tuple[int, ...]
) -> Tensor:
    """Convolve images ``[N,C,h,w]`` and return ``[N,h',w',C']``.

    With weights in the channels-last format the kernel writes its result in that format, so that nothing is permuted.
    With large strides the other format is faster, and little is left to permute. A training converts the images too:
    its backward pass gains more than that takes.
    """
    training = torch.is_grad_enabled() and weight.requires_grad
    if stride >= _LARGE_STRIDE and not training:
        return F.conv2d(images, weight, bias, stride, padding).permute(0, 2, 3, 1).contiguous()
    if training:
        images = images.contiguous(memory_format=torch.channels_last)
    weight = weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(images, weight, bias, stride, padding).permute(0, 2, 3, 1)


def resize_query(volume: Tensor, size: Sequence[int]) -> Tensor:
    """Resize the query dimensions of a volume ``[B,hq,wq,hs,ws,C]`` bilinearly."""
    y = resize(volume.flatten(3).permute(0, 3, 1, 2), size)
    return y.permute(0, 2, 3, 1).reshape(volume.shape[0], *size, *volume.shape[3:])


def mean_shots(volume: Tensor, shots: int) -> Tensor:
    """Average the volumes of each episode's adjacent shots, from ``[B * shots,...]`` to ``[B,...]``."""
    return volume if shots == 1 else volume.reshape(-1, shots, *volume.shape[1:]).mean(1)
