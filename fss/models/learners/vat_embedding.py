"""VAT's volume embedding: 4-D convolutions as the sum of two 2-D convolutions (Hong et al., ECCV 2022, section 4.2).

Each 2-D convolution sees the volume max-pooled over the other image's dimensions. Volumes are ``[B,hq,wq,hs,ws,C]``,
raw correlations ``[B,hq,wq,L,hs,ws]``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fss.models.layers.correlation import conv_channels_first, conv_channels_last, swap_images
from fss.models.layers.norm import group_norm


class PooledConv4d(nn.Module):
    """The sum of a convolution over the query and one over the support; ``strides`` are their strides.

    Before each convolution, the dimensions of the other image are max-pooled by that image's stride.
    """

    def __init__(self, cin: int, cout: int, strides: tuple[int, int]) -> None:
        super().__init__()
        self.query_stride, self.support_stride = strides
        self.query_conv = nn.Conv2d(cin, cout, 3, padding=1)
        self.supp_conv = nn.Conv2d(cin, cout, 3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        """Convolve ``[B,hq,wq,hs,ws,C]`` to ``[B,hq/sq,wq/sq,hs/ss,ws/ss,C']``."""
        sq, ss = self.query_stride, self.support_stride
        cells = pool_pairs(volume, 3, ss).permute(0, 3, 4, 1, 2, 5)
        query = conv_channels_last(cells.flatten(0, 2), self.query_conv, sq)
        query = query.reshape(*cells.shape[:3], *query.shape[1:]).permute(0, 3, 4, 1, 2, 5)
        pooled = pool_pairs(volume, 1, sq)
        support = conv_channels_last(pooled.flatten(0, 2), self.supp_conv, ss)
        return support.reshape(query.shape).add_(query)


class PooledCorrelationConv4d(PooledConv4d):
    """The pooled convolution of a raw correlation, whose channels are not last."""

    def forward(self, volume: Tensor) -> Tensor:
        """Convolve ``[B,hq,wq,L,hs,ws]`` to ``[B,hq/sq,wq/sq,hs/ss,ws/ss,C']``."""
        sq, ss = self.query_stride, self.support_stride
        cells = swap_images(pool_pairs(volume, 4, ss))
        query = conv_channels_first(cells.flatten(0, 2), self.query_conv, sq)
        query = query.reshape(*cells.shape[:3], *query.shape[1:]).permute(0, 3, 4, 1, 2, 5)
        support = conv_channels_first(pool_pairs(volume, 1, sq).flatten(0, 2), self.supp_conv, ss)
        return support.reshape(query.shape).add_(query)


def pool_pairs(volume: Tensor, axis: int, stride: int) -> Tensor:
    """Max-pool the dimensions ``axis`` and ``axis + 1`` by ``stride``, 1 or 2, without copying if it is 1."""
    assert stride in (1, 2)
    if stride == 1:
        return volume
    for dim in (axis, axis + 1):
        if volume.requires_grad and torch.is_grad_enabled():
            volume = _PairMaximum.apply(volume, dim)
        else:
            volume = torch.maximum(*_pairs(volume, dim))
    return volume


def _pairs(volume: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return views of the even and of the odd slices of a dimension.

    Elementwise maxima of slices take a quarter of the time of a reduction over such short dimensions.
    """
    even, odd = torch.unflatten(volume, dim, (-1, 2)).unbind(dim + 1)
    return even, odd


class _PairMaximum(torch.autograd.Function):
    """Maxima of the pairs of a dimension; of equal values the first gets the gradient, as in PyTorch's max-pooling.

    PyTorch divides the gradient of ``torch.maximum`` among equal values and stacks those of slices, which takes five
    times as long.
    """

    @staticmethod
    def forward(ctx: Any, volume: Tensor, dim: int) -> Tensor:
        even, odd = _pairs(volume, dim)
        ctx.dim = dim
        ctx.save_for_backward(even >= odd)
        return torch.maximum(even, odd)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (first,) = ctx.saved_tensors
        gradient = grad.new_empty(*grad.shape[: ctx.dim], 2 * grad.shape[ctx.dim], *grad.shape[ctx.dim + 1 :])
        even, odd = _pairs(gradient, ctx.dim)
        torch.mul(grad, first, out=even)
        torch.sub(grad, even, out=odd)
        return gradient, None


class EmbeddingLayer(nn.Sequential):
    """Convolution, group normalisation and ReLU, with keys ``0`` and ``1``."""

    def __init__(self, conv: PooledConv4d, groups: int) -> None:
        super().__init__(conv, nn.GroupNorm(groups, conv.query_conv.out_channels), nn.ReLU(inplace=True))

    def forward(self, volume: Tensor) -> Tensor:
        """Embed a volume, or a raw correlation in the first layer."""
        norm = self[1]
        assert isinstance(norm, nn.GroupNorm)
        return group_norm(norm, self[0](volume), relu=True)


def embedding_encoder(
    channels: Sequence[int], strides: Sequence[tuple[int, int]], groups: Sequence[int]
) -> nn.Sequential:
    """Create the layers that embed the correlation of one level.

    Args:
        channels: channels before the first layer and after each layer.
        strides: strides over query and support, for each layer.
        groups: groups of the normalisation, for each layer.
    """
    layers = []
    for i, (stride, count) in enumerate(zip(strides, groups, strict=True)):
        conv = (PooledConv4d if i else PooledCorrelationConv4d)(channels[i], channels[i + 1], stride)
        layers.append(EmbeddingLayer(conv, count))
    return nn.Sequential(*layers)
