"""ResNet backbones: those of torchvision, and the deep-stem variants of the released MaskSplit models.

The maps of a stage are the outputs of the residual blocks of ``layer1`` .. ``layer4``. Their numbers are (2,2,2,2) for
ResNet-18, (3,4,6,3) for ResNet-34 and ResNet-50, and (3,4,23,3) for ResNet-101.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from fss.models.backbones.base import Backbone, BackboneBuilder, MapSelection, select_channels
from fss.models.features import Features
from fss.models.layers.fused_conv import FusedConv, fuse_sequence

_LAYERS = ("layer1", "layer2", "layer3", "layer4")


class ResNetBackbone(Backbone):
    """A ResNet that returns block outputs before or after their last ReLU. Key names are torchvision's.

    With ``dilated``, all 3x3 convolutions of ``layer3`` have dilation 2 and those of ``layer4`` dilation 4, and both
    layers have stride 1. This is the form of the released MaskSplit code; torchvision's
    ``replace_stride_with_dilation`` differs in the first block of each layer.
    """

    def __init__(self, network: ResNet, selection: MapSelection, *, deep_stem: bool = False) -> None:
        super().__init__(selection)
        self.deep_stem = deep_stem
        if deep_stem:
            self.layer0 = _deep_stem()
            _widen_first_block(network.layer1[0])
        else:
            self.conv1, self.bn1 = network.conv1, network.bn1
            self.relu: nn.Module = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        for name in _LAYERS:
            setattr(self, name, getattr(network, name))
        if selection.dilated:
            _dilate(self._layer("layer3"), 2)
            _dilate(self._layer("layer4"), 4)
        self.channels = select_channels([[_width(b) for b in self._layer(name)] for name in _LAYERS], selection)

    def _layer(self, name: str) -> nn.Sequential:
        layer = getattr(self, name)
        assert isinstance(layer, nn.Sequential)
        return layer

    def stem(self, images: Tensor) -> Tensor:
        """Return the stem's output at reduction 4 for images ``[B,3,H,W]``."""
        if self.deep_stem:
            return self._layer("layer0")(images)  # type: ignore[no-any-return]
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))  # type: ignore[no-any-return]

    def stages(self, images: Tensor) -> Features:
        """Return the selected block outputs by stage."""
        return self.first_stages(images, len(_LAYERS))

    def first_stages(self, images: Tensor, count: int) -> Features:
        """Return the selected block outputs of the first ``count`` stages, without computing the others."""
        x, features = self.stem(images), []
        for name, keep in zip(_LAYERS[:count], self.selection.keep, strict=False):
            maps, blocks = [], self._layer(name)
            for i, block in enumerate(blocks):
                selected = keep == "all" or (keep == "last" and i == len(blocks) - 1)
                before = selected and not self.selection.activated  # the map is the sum before the ReLU
                if isinstance(block, _FusedBlock):
                    total = block(x, relu=not before)
                    x = total.relu() if before else total
                else:
                    total = _block_sum(block, x)
                    x = total.relu() if before else total.relu_()
                if selected:
                    maps.append(x if self.selection.activated else total)
            features.append(maps)
        return features

    def fuse(self) -> bool:
        """Fuse the stem and all blocks."""
        if self.deep_stem:
            fuse_sequence(self._layer("layer0"))
        else:
            self.conv1, self.bn1 = FusedConv(self.conv1, self.bn1, "relu"), nn.Identity()
            self.relu = nn.Identity()
        for name in _LAYERS:
            setattr(self, name, nn.Sequential(*map(_FusedBlock, self._layer(name))))
        return True

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the classifier, and translate a deep stem written as conv1..conv3 with bn1..bn3."""
        state = {key: v for key, v in state.items() if not key.startswith("fc.")}
        if self.deep_stem:
            stem_indices = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6", "bn3": "7"}
            renamed = {}
            for key, value in state.items():
                head, _, tail = key.partition(".")
                renamed[f"layer0.{stem_indices[head]}.{tail}" if head in stem_indices else key] = value
            return renamed
        return state


def _block_sum(block: Any, x: Tensor) -> Tensor:
    """Return the residual sum of a block, before its last ReLU."""
    shortcut = x if block.downsample is None else block.downsample(x)
    y = block.bn1(block.conv1(x)).relu_()
    y = block.bn2(block.conv2(y))
    if isinstance(block, Bottleneck):
        y = block.bn3(block.conv3(y.relu_()))
    return y.add_(shortcut)  # type: ignore[no-any-return]


class _FusedBlock(nn.Module):
    """A residual block of fused convolutions."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        bottleneck = isinstance(block, Bottleneck)
        last = (block.conv3, block.bn3) if bottleneck else (block.conv2, block.bn2)
        self.first = FusedConv(block.conv1, block.bn1, "relu")
        self.second = FusedConv(block.conv2, block.bn2, "relu") if bottleneck else nn.Identity()
        self.last = FusedConv(*last)
        self.shortcut = nn.Identity() if block.downsample is None else FusedConv(*block.downsample)

    def forward(self, x: Tensor, *, relu: bool) -> Tensor:
        """Return the residual sum, after its ReLU if asked."""
        return self.last.add(self.second(self.first(x)), self.shortcut(x), relu=relu)


def _width(block: Any) -> int:
    last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
    return int(last.out_channels)


def _deep_stem() -> nn.Sequential:
    def conv(cin: int, cout: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]

    return nn.Sequential(*conv(3, 64, 2), *conv(64, 64, 1), *conv(64, 128, 1), nn.MaxPool2d(3, 2, 1))


def _widen_first_block(block: nn.Module) -> None:
    """Give the first bottleneck the 128 input channels of the deep stem."""
    assert isinstance(block, Bottleneck) and isinstance(block.downsample, nn.Sequential)
    block.conv1 = nn.Conv2d(128, block.conv1.out_channels, 1, bias=False)
    block.downsample.register_module("0", nn.Conv2d(128, block.conv3.out_channels, 1, bias=False))


def _dilate(layer: nn.Sequential, dilation: int) -> None:
    block: Any
    for block in layer:
        if block.downsample is not None:
            block.downsample[0].stride = (1, 1)
        for conv in (m for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
            conv.stride, conv.dilation, conv.padding = (1, 1), (dilation, dilation), (dilation, dilation)


def _build(
    name: str, selection: MapSelection, pretrained: bool, *, blocks: tuple[int, ...] = (), block: type = Bottleneck
) -> Backbone:
    deep_stem = name.endswith("_deepstem")
    if deep_stem and pretrained:
        raise ValueError(
            f"torchvision has no weights for {name}; give the path of a state dict with --backbone-weights, or None"
        )
    if pretrained:
        network = getattr(torchvision.models, name)(weights="IMAGENET1K_V1")
    else:
        network = torchvision.models.ResNet(block, list(blocks))
    return ResNetBackbone(network, selection, deep_stem=deep_stem)


BUILDERS: dict[str, BackboneBuilder] = {
    "resnet18": partial(_build, blocks=(2, 2, 2, 2), block=BasicBlock),
    "resnet34": partial(_build, blocks=(3, 4, 6, 3), block=BasicBlock),
    "resnet50": partial(_build, blocks=(3, 4, 6, 3)),
    "resnet101": partial(_build, blocks=(3, 4, 23, 3)),
    "resnet50_deepstem": partial(_build, blocks=(3, 4, 6, 3)),
    "resnet101_deepstem": partial(_build, blocks=(3, 4, 23, 3)),
}
