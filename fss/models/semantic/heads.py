"""Heads of semantic networks, which turn feature maps into class logits.

Every head takes the backbone's maps at reduction 8 (``low``, which only LR-ASPP uses) and at the output stride
(``high``). It returns logits on the grid of the finest map that it uses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.lraspp import LRASPPHead

DILATIONS = (6, 12, 18, 24)
BLOCKS = 3
LRASPP_WIDTH = 128


class DeepLabV2Head(nn.Module):
    """Sum of dilated 3x3 convolutions (Chen et al., DeepLab, TPAMI 2018).

    The released code of the three-stage framework, like the code it is based on, returns inside the loop, so that it
    sums only the first two dilations. ``dilations=(6, 12)`` reproduces that network.
    """

    def __init__(self, channels: int, classes: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return logits [B,C,h,w]."""
        return torch.stack([conv(high) for conv in self.convs]).sum(0)


class DeepLabV3Head(nn.Module):
    """torchvision's DeepLabV3 head: atrous spatial pyramid pooling, a 3x3 convolution and a classifier.

    The atrous rates are doubled at output stride 8 (Chen et al., arXiv 1706.05587, section 3.3).
    """

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        super().__init__()
        self.layers = DeepLabHead(channels, classes, (12, 24, 36) if stride == 8 else (6, 12, 18))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return logits [B,C,h,w]."""
        return self.layers(high)  # type: ignore[no-any-return]


class LrasppHead(nn.Module):
    """torchvision's LR-ASPP head (Howard et al., MobileNetV3, ICCV 2019), which is fast on a CPU."""

    def __init__(self, low_channels: int, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = LRASPPHead(low_channels, channels, classes, LRASPP_WIDTH)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return logits [B,C,H/8,W/8]."""
        return self.layers({"low": low, "high": high})  # type: ignore[no-any-return]


def build_auxiliary_stage(channels: int, dilation: int, *, published: bool) -> nn.Sequential:
    """Return a stage of three bottlenecks that only the auxiliary head uses; it preserves the number of channels.

    On ResNet-50 and ResNet-101 it is that of the released head g-hat: 1024 channels, 256 inside a bottleneck, dilation
    4.

    Args:
        channels: channels of the shared maps.
        dilation: dilation of the 3x3 convolutions.
        published: initialise the convolutions from N(0, 0.01) as in the released code, instead of as in torchvision.
    """
    width = channels // Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
    blocks = [
        Bottleneck(channels, width, dilation=dilation, downsample=shortcut if number == 0 else None)
        for number in range(BLOCKS)
    ]
    stage = nn.Sequential(*blocks)
    for conv in (module for module in stage.modules() if isinstance(module, nn.Conv2d)):
        if published:
            nn.init.normal_(conv.weight, std=0.01)
        else:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return stage
