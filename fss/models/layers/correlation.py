"""Hypercorrelation: cosine similarities between all positions of query and support, and the layout that holds them.

Four-dimensional volumes are kept with the channels last, ``[B,hq,wq,hs,ws,C]``: query rows and columns, support rows
and columns. Convolutions over the support then read their images in place, those over the query after moving whole
channel vectors only, and normalisation and matrix products need no permutation at all. A raw correlation has few
channels (one per backbone map) and stands as ``[B,hq,wq,L,hs,ws]``, where the first convolution over the support reads
it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.features import resize

EPS = 1e-5


def l2_normalize(features: Tensor) -> Tensor:
    """Scale ``[B,C,h,w]`` to unit length over the channels: ``f / (|f| + 1e-5)``, the norm in float32.

    Under autocast the result has autocast's dtype, so that the correlation is stored in half precision.
    """
    scaled: Tensor = features / (torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float32) + EPS)
    device = features.device.type
    return scaled.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else scaled


def correlate(query: Sequence[Tensor], support: Sequence[Tensor], shots: int = 1) -> Tensor:
    """Correlate the unit maps of one stage, negative similarities set to 0.

    Args:
        query: L maps ``[B,C,hq,wq]`` (C may differ between maps).
        support: L maps ``[B * shots,C,hs,ws]``.
        shots: supports per query.

    Returns:
        ``[B * shots,hq,wq,L,hs,ws]``; map 0 is the shallowest.
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


def conv_channels_last(images: Tensor, conv: nn.Conv2d, stride: int = 1) -> Tensor:
    """Convolve images with channels last, ``[N,h,w,C]``, and return them so."""
    y = F.conv2d(images.permute(0, 3, 1, 2), conv.weight, conv.bias, stride, conv.padding)
    return y.permute(0, 2, 3, 1)


def conv_channels_first(images: Tensor, conv: nn.Conv2d, stride: int = 1) -> Tensor:
    """Convolve images whose channels do not stand last, ``[N,C,h,w]``, and return ``[N,h,w,C']``.

    Weights with channels last make the kernel write its result so: nothing is permuted afterwards.
    """
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(images, weight, conv.bias, stride, conv.padding).permute(0, 2, 3, 1)


def resize_query(volume: Tensor, size: Sequence[int]) -> Tensor:
    """Resize the query dimensions of a volume ``[B,hq,wq,hs,ws,C]`` bilinearly at every support cell and channel."""
    y = resize(volume.flatten(3).permute(0, 3, 1, 2), size)
    return y.permute(0, 2, 3, 1).reshape(volume.shape[0], *size, *volume.shape[3:])


def mean_shots(volume: Tensor, shots: int) -> Tensor:
    """Average the volumes of each episode's adjacent shots: ``[B * shots,...]`` to ``[B,...]``."""
    return volume if shots == 1 else volume.reshape(-1, shots, *volume.shape[1:]).mean(1)
