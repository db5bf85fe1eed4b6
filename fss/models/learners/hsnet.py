"""HSNet: hypercorrelation squeeze with centre-pivot 4-D convolutions.

Min, Kang and Cho, "Hypercorrelation Squeeze for Few-Shot Segmentation", ICCV 2021, section 4. Module and key names are
the published ones. Masking ``feature`` is the published network, masking ``hybrid`` that of Moon et al., ECCV 2022.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import Features, map_features
from fss.models.layers.correlation import (
    conv_channels_first,
    conv_channels_last,
    correlate,
    l2_normalise,
    mean_shots,
    resize_query,
)
from fss.models.layers.decoder import decode, decoder_modules
from fss.models.layers.norm import group_norm
from fss.models.learners.base import Channels, Learner
from fss.models.masking import Masking


class CentrePivotConv4d(nn.Module):
    """A 4-D convolution as the sum of two 2-D convolutions, one over the query and one over the support.

    The convolution over the query is applied at every ``stride``-th support cell; the other one has that stride.
    """

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(cin, cout, kernel, padding=kernel // 2)

    def forward(self, volume: Tensor, stride: int) -> Tensor:
        """Convolve ``[B,hq,wq,hs,ws,C]`` to ``[B,hq,wq,ceil(hs/stride),ceil(ws/stride),C']``."""
        b, hq, wq, hs, ws, c = volume.shape
        support = self._over_support(volume.reshape(b * hq * wq, hs, ws, c), stride)
        cells = volume[:, :, :, ::stride, ::stride].permute(0, 3, 4, 1, 2, 5)
        query = conv_channels_last(cells.reshape(-1, hq, wq, c), self.conv1)
        query = query.reshape(*cells.shape[:-1], -1).permute(0, 3, 4, 1, 2, 5)
        return support.reshape(query.shape).add_(query)

    def _over_support(self, images: Tensor, stride: int) -> Tensor:
        n, hs, ws, _ = images.shape
        if stride == 1 and hs * ws <= 4:
            weight, bias = _dense_matrix(self.conv2, hs, ws)
            return F.linear(images.reshape(n, -1), weight, bias).view(n, hs, ws, -1)
        return conv_channels_last(images, self.conv2, stride)


class CorrelationConv4d(CentrePivotConv4d):
    """The centre-pivot convolution of a raw correlation, whose channels are not last."""

    def forward(self, volume: Tensor, stride: int) -> Tensor:
        """Convolve ``[B,hq,wq,L,hs,ws]`` to ``[B,hq,wq,ceil(hs/stride),ceil(ws/stride),C']``."""
        b, hq, wq, maps, hs, ws = volume.shape
        support = conv_channels_first(volume.view(-1, maps, hs, ws), self.conv2, stride)
        cells = volume[..., ::stride, ::stride].permute(0, 4, 5, 3, 1, 2)
        query = conv_channels_first(cells.reshape(-1, maps, hq, wq), self.conv1)
        query = query.reshape(b, *cells.shape[1:3], hq, wq, -1).permute(0, 3, 4, 1, 2, 5)
        return support.reshape(query.shape).add_(query)


def _dense_matrix(conv: nn.Conv2d, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return a same-size convolution on a small grid as a matrix ``[cells * C', cells * C]`` and its bias.

    On a 2 x 2 grid, more than half of the products of a 3 x 3 kernel involve padding. The matrix omits them.
    """
    kernel, pad = conv.weight.shape[-1], conv.weight.shape[-1] // 2
    device = conv.weight.device
    rows, cols = torch.arange(height, device=device), torch.arange(width, device=device)
    dy = rows[None, :] - rows[:, None] + pad  # [out, in]
    dx = cols[None, :] - cols[:, None] + pad
    inside_y, inside_x = (dy >= 0) & (dy < kernel), (dx >= 0) & (dx < kernel)
    taps = conv.weight[:, :, dy.clamp(0, kernel - 1)][..., dx.clamp(0, kernel - 1)]  # [C', C, yo, yi, xo, xi]
    taps = taps * (inside_y[:, :, None, None] & inside_x).to(taps)
    weight = taps.permute(2, 4, 0, 3, 5, 1).reshape(height * width * conv.out_channels, -1)
    assert conv.bias is not None
    return weight, conv.bias.repeat(height * width)


class Squeeze(nn.Sequential):
    """Three blocks of convolution, group normalisation and ReLU, with keys ``0``, ``1``, ``3``, ``4``, ``6``, ``7``."""

    def __init__(self, channels: Sequence[int], kernels: Sequence[int], *, raw: bool) -> None:
        modules: list[nn.Module] = []
        for i, (cin, cout, kernel) in enumerate(zip(channels, channels[1:], kernels, strict=False)):
            conv = CorrelationConv4d if raw and i == 0 else CentrePivotConv4d
            modules += [conv(cin, cout, kernel), nn.GroupNorm(4, cout), nn.ReLU(inplace=True)]
        super().__init__(*modules)

    def forward(self, volume: Tensor, strides: Sequence[int] = (1, 1, 1)) -> Tensor:
        """Squeeze a volume, or a raw correlation, by the support ``strides`` of the layers."""
        for i, stride in enumerate(strides):
            norm = self[3 * i + 1]
            assert isinstance(norm, nn.GroupNorm)
            volume = group_norm(norm, self[3 * i](volume, stride), relu=True)
        return volume


class HSNet(Learner):
    """Three squeezing encoders, top-down mixing over the query, and a 2-D decoder."""

    selection: ClassVar[MapSelection] = MapSelection(keep=("none", "all", "all", "all"))

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        l2, l3, l4 = (len(stage) for stage in channels[1:])
        self.encoder_layer4 = Squeeze((l4, 16, 64, 128), (3, 3, 3), raw=True)
        self.encoder_layer3 = Squeeze((l3, 16, 64, 128), (5, 3, 3), raw=True)
        self.encoder_layer2 = Squeeze((l2, 16, 64, 128), (5, 5, 3), raw=True)
        self.encoder_layer4to3 = Squeeze((128, 128, 128, 128), (3, 3, 3), raw=False)
        self.encoder_layer3to2 = Squeeze((128, 128, 128, 128), (3, 3, 3), raw=False)
        self.decoder1, self.decoder2 = decoder_modules()

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "HSNet":
        """Build the learner for a backbone."""
        return cls(channels)

    def embed_query(self, features: Features) -> Features:
        """Scale the maps to unit length."""
        return map_features(l2_normalise, features)

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask the maps at their own resolution and scale them to unit length."""
        return map_features(lambda p, m: l2_normalise(masking.merge(p, m, masks)), plain, masked)

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits at twice the size of the stride-8 grid; shots are averaged after the encoders."""
        strides = support_strides(support[3][0].shape[-2:])
        encoders = (self.encoder_layer2, self.encoder_layer3, self.encoder_layer4)
        e2, e3, e4 = (
            mean_shots(encoder(correlate(q, s, shots), steps), shots)
            for encoder, q, s, steps in zip(encoders, query[1:], support[1:], strides, strict=True)
        )
        _check_support_grids(e2, e3, e4)
        x = self.encoder_layer4to3(resize_query(e4, e3.shape[1:3]) + e3)
        x = self.encoder_layer3to2(resize_query(x, e2.shape[1:3]) + e2)
        return decode(self.decoder1, self.decoder2, x.mean((3, 4)))


def support_strides(deepest: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the support strides of the three layers in each encoder (layers 2, 3 and 4).

    The published strides reduce 400-pixel images to 2 x 2 support cells. Smaller images use smaller strides, so that
    the grid stays 2 x 2: half of them below 257 pixels (at most 8 cells in layer 4), a quarter below 129 (at most 4
    cells).

    Args:
        deepest: height and width of layer 4's support grid, in cells.
    """
    cells = min(deepest)
    if cells > 8:
        return (4, 4, 2), (4, 2, 2), (2, 2, 2)
    if cells > 4:
        return (4, 4, 1), (4, 2, 1), (2, 2, 1)
    return (4, 2, 1), (4, 1, 1), (2, 1, 1)


def _check_support_grids(e2: Tensor, e3: Tensor, e4: Tensor) -> None:
    """Refuse squeezed volumes ``[B,hq,wq,hs,ws,C]`` whose support grids differ, which unusual image sizes can cause."""
    grids = [tuple(e.shape[3:5]) for e in (e2, e3, e4)]
    if len(set(grids)) > 1:
        raise ValueError(
            f"images of this size have support grids of {grids} cells at the three levels, which cannot be added; "
            "use a size whose sides are multiples of 32, such as 224, 256, 384 or 416, or 400 with a ResNet"
        )
