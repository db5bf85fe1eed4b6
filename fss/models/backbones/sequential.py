"""Backbones that are one sequence of modules: VGG-16, MobileNetV2 and SqueezeNet 1.1 of torchvision.

The table lists the modules of ``features`` whose outputs are the maps of a stage.

| stage (reduction) | VGG-16 ``features`` | MobileNetV2 ``features`` | SqueezeNet 1.1 ``features`` |
|---|---|---|---|
| 4 | 14 | 2, 3 | 3, 4 |
| 8 | 17, 19, 21 | 4, 5, 6 | 6, 7 |
| 16 | 24, 26, 28 | 7 .. 13 | 9 .. 12 |
| 32 | 30 (pool) | 14 .. 17 | max pool of 12 |

For VGG-16 the maps are the outputs of convolutions before their ReLU (after it for MaskSplit) and of the last pool.
MobileNetV2's blocks end without an activation, SqueezeNet's with one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torchvision
from torch import Tensor, nn
from torchvision.models import vgg
from torchvision.models.mobilenetv2 import InvertedResidual

from fss.models.backbones.base import Backbone, BackboneBuilder, MapSelection, select_channels, select_maps
from fss.models.features import Features
from fss.models.layers.fused_conv import fuse_sequence


@dataclass(frozen=True)
class _Layout:
    indices: tuple[tuple[int, ...], ...]
    channels: tuple[tuple[int, ...], ...]
    length: int
    extra_pool: bool = False


_LAYOUTS = {
    "vgg16": _Layout(((14,), (17, 19, 21), (24, 26, 28), (30,)), ((256,), (512,) * 3, (512,) * 3, (512,)), 31),
    "mobilenet_v2": _Layout(
        ((2, 3), (4, 5, 6), tuple(range(7, 14)), tuple(range(14, 18))),
        ((24, 24), (32,) * 3, (64,) * 4 + (96,) * 3, (160,) * 3 + (320,)),
        18,
    ),
    "squeezenet1_1": _Layout(
        ((3, 4), (6, 7), (9, 10, 11, 12), (13,)), ((128, 128), (256, 256), (384, 384, 512, 512), (512,)), 13, True
    ),
}


class SequentialBackbone(Backbone):
    """A sequence of modules with maps taken at fixed indices. Key names are torchvision's ``features.<index>``."""

    def __init__(self, name: str, features: nn.Sequential, selection: MapSelection) -> None:
        super().__init__(selection)
        layout = _LAYOUTS[name]
        modules = list(features)[: layout.length]
        if layout.extra_pool:
            modules.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.features = nn.Sequential(*modules)
        self.indices = [
            select_maps(indices, keep) for indices, keep in zip(layout.indices, selection.keep, strict=True)
        ]
        self.stage_ends = [indices[-1] + 1 for indices in layout.indices]
        self.channels = select_channels(layout.channels, selection)

    def stages(self, images: Tensor) -> Features:
        """Run the sequence and return the selected maps."""
        return self._run(images, len(self.features))

    def first_stages(self, images: Tensor, count: int) -> Features:
        """Return the selected maps of the first ``count`` stages, without computing the others."""
        last = max(index for index, stage in self._stage_by_index().items() if stage < count)
        return self._run(images, last + 1)[:count]

    def _run(self, images: Tensor, length: int) -> Features:
        """Run the first ``length`` modules."""
        features: Features = [[] for _ in self.indices]
        x, stage_of = images, self._stage_by_index()
        for index, module in enumerate(self.features[:length]):
            if isinstance(module, nn.ReLU):
                # In place, unless the map before the ReLU is returned.
                x = x.relu() if index - 1 in stage_of and not self.selection.activated else x.relu_()
            else:
                x = module(x)
            if index in stage_of:
                features[stage_of[index]].append(x)
        return features

    def _stage_by_index(self) -> dict[int, int]:
        """Return the stage of every module whose output is selected."""
        stage_of = {}
        for stage, indices in enumerate(self.indices):
            for index in indices:
                follower = self.features[index + 1] if index + 1 < len(self.features) else None
                shift = int(self.selection.activated and isinstance(follower, nn.ReLU))
                stage_of[index + shift] = stage
        return stage_of

    def fuse(self) -> bool:
        """Fuse the convolutions of MobileNetV2. The others have no BatchNorm, and VGG-16's maps are before the ReLU."""
        blocks = [module for module in self.features if isinstance(module, InvertedResidual)]
        for block in blocks:
            fuse_sequence(block.conv)
        stem = self.features[0]
        if blocks and isinstance(stem, nn.Sequential):
            fuse_sequence(stem)
        return bool(blocks)

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the classifier and the layers after the last selected one."""
        unused = re.compile(r"classifier\.|features\.(\d+)\.")
        parts = ((key, value, unused.match(key)) for key, value in state.items())
        return {
            key: value for key, value, part in parts if part is None or (part[1] and int(part[1]) < len(self.features))
        }


def _build(name: str, selection: MapSelection, pretrained: bool) -> Backbone:
    if name == "vgg16" and not pretrained:
        return SequentialBackbone(name, _vgg16_features(), selection)
    network = getattr(torchvision.models, name)(weights="IMAGENET1K_V1" if pretrained else None)
    return SequentialBackbone(name, network.features, selection)


def _vgg16_features() -> nn.Sequential:
    """Build only VGG-16's convolutions, because initialising the 124 million weights of its classifier takes long."""
    features: nn.Sequential = vgg.make_layers(vgg.cfgs["D"])
    for conv in (m for m in features if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return features


BUILDERS: dict[str, BackboneBuilder] = dict.fromkeys(_LAYOUTS, _build)
