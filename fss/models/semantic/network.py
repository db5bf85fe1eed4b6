"""Networks that give every pixel one of C classes, with a second head for noisy masks.

    network = build_semantic(SemanticConfig(backbone="mobilenet_v2", network="lraspp"), classes=11, auxiliary="deep")
    main, auxiliary = network(pixels)             # pixels [B,3,H,W] in 0..255 -> logits [B,C,H,W] each
    labels = network.predict(pixels)              # uint8 [B,H,W]

The three heads of Ke et al. (A Three-Stage Self-Training Framework for Semi-Supervised Semantic Segmentation, IEEE TIP
2022): the main head g; g-hat (``deep``), an auxiliary head with a last stage of its own on the shared maps at reduction
16; g-tilde (``shallow``), only a classifier of its own on the last maps.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from fss.models.backbones.base import Backbone, MapSelection, load_strictly, read_state_dict
from fss.models.backbones.factory import create_backbone
from fss.models.backbones.resnet import ResNetBackbone
from fss.models.backbones.sequential import SequentialBackbone
from fss.models.semantic.config import Auxiliary, SemanticConfig
from fss.models.semantic.heads import DILATIONS, DeepLabV2Head, DeepLabV3Head, LrasppHead, build_auxiliary_stage

PIXELS = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "coco": ((122.68, 116.67, 104.01), (1.0, 1.0, 1.0)),
}
"""Mean and deviation of red, green and blue, 0..255."""


class SemanticLogits(NamedTuple):
    """What a network says."""

    main: Tensor
    """[B,C,H,W] of head g."""
    auxiliary: Tensor | None
    """[B,C,H,W] of the auxiliary head, where there is one."""


class SemanticNetwork(nn.Module):
    """Backbone, main head, and an auxiliary head or none; get it from :func:`build_semantic`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: SemanticConfig, classes: int, auxiliary: Auxiliary, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.classes, self.auxiliary = config, classes, auxiliary
        self.backbone = backbone
        (low,), (shared,), (last,) = backbone.channels[1:]
        published = config.network == "deeplabv2"
        self.head = _head(config, low, last, classes)
        self.auxiliary_stage: nn.Module | None = None
        if auxiliary == "deep":
            self.auxiliary_stage = build_auxiliary_stage(shared, 32 // config.stride, published=published)
        self.auxiliary_head = None
        if auxiliary != "none":
            self.auxiliary_head = _head(config, low, shared if auxiliary == "deep" else last, classes)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in PIXELS[config.pixels])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        self._frozen = norms if config.frozen_norm else []
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "SemanticNetwork":
        """Switch the mode; frozen normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> SemanticLogits:
        """Segment pictures [B,3,H,W], uint8 or float, red, green and blue in 0..255."""
        images = ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        _, (low,), (shared,), (last,) = self.backbone(images)
        size = pixels.shape[-2:]
        main = _upsample(self.head(low, last), size)
        if self.auxiliary_head is None:
            return SemanticLogits(main, None)
        high = last if self.auxiliary_stage is None else self.auxiliary_stage(shared)
        return SemanticLogits(main, _upsample(self.auxiliary_head(low, high), size))

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> Tensor:
        """Return the class number of every pixel by the main head, uint8 [B,H,W]."""
        return self(pixels).main.argmax(1).to(torch.uint8)  # type: ignore[no-any-return]

    def parameter_groups(self, new: float, pretrained: float) -> list[dict[str, object]]:
        """Return what an optimiser takes: heads with the rate ``new``, the backbone with ``pretrained``."""
        old = {id(parameter) for parameter in self.backbone.parameters()}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [(new, [p for p in trained if id(p) not in old]), (pretrained, [p for p in trained if id(p) in old])]
        return [{"params": parameters, "lr": rate} for rate, parameters in groups if parameters]


def build_semantic(config: SemanticConfig, *, classes: int, auxiliary: Auxiliary = "none") -> SemanticNetwork:
    """Build a network with fresh weights.

    Args:
        config: what it is made of.
        classes: C, the background included where it is a class.
        auxiliary: the second head: none, ``deep`` (g-hat) or ``shallow`` (g-tilde).

    Raises:
        ValueError: a backbone that has no such form, weights that do not fit, or a normalisation without its weights.
    """
    if config.backbone_weights in (None, "pretrained"):
        if config.pixels == "coco":
            raise ValueError(
                f"pixels=coco goes with a DeepLabV2 trained on MS-COCO, got backbone_weights="
                f"{config.backbone_weights}: give the path of its state dict, or choose pixels=imagenet"
            )
        return construct_network(config, classes, auxiliary, pretrained=config.backbone_weights is not None)
    state = {key.removeprefix("Scale."): value for key, value in read_state_dict(str(config.backbone_weights)).items()}
    network = construct_network(config, classes, auxiliary, pretrained=False)
    own = {key: value for key, value in state.items() if not key.startswith("layer5.")}
    what = f"the backbone {config.backbone}"
    load_strictly(network.backbone, network.backbone.rename_weights(own), what=what)
    if isinstance(network.head, DeepLabV2Head):
        _take_classifier(network.head, state)
    return network


def construct_network(
    config: SemanticConfig, classes: int, auxiliary: Auxiliary, *, pretrained: bool
) -> SemanticNetwork:
    """Put a network together, its backbone random or with the library's ImageNet weights; reads no file."""
    selection = MapSelection(keep=("none", "last", "last", "last"), activated=True)
    weights = "pretrained" if pretrained else None
    backbone = create_backbone(config.backbone, selection, backbone_weights=weights, seed=config.seed)
    _hold_stride(backbone, config)
    if config.network == "deeplabv2":
        _stride_first(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return SemanticNetwork(config, classes, auxiliary, backbone).to(memory_format=torch.channels_last)


def _head(config: SemanticConfig, low: int, channels: int, classes: int) -> nn.Module:
    if config.network == "deeplabv2":
        return DeepLabV2Head(channels, classes, DILATIONS if config.all_dilations else DILATIONS[:2])
    if config.network == "deeplabv3":
        return DeepLabV3Head(channels, classes, config.stride)
    return LrasppHead(low, channels, classes)


def _hold_stride(backbone: Backbone, config: SemanticConfig) -> None:
    """Replace strides by dilation in the stages that would go below the output stride."""
    for reduction, stage in zip((16, 32), _last_stages(backbone, config.backbone), strict=True):
        if reduction > config.stride:
            for conv in _convolutions(stage):
                conv.stride = (1, 1)
                if conv.kernel_size == (3, 3):
                    conv.dilation = conv.padding = (reduction // config.stride,) * 2


def _last_stages(backbone: Backbone, name: str) -> tuple[Iterable[nn.Module], Iterable[nn.Module]]:
    if isinstance(backbone, ResNetBackbone):
        return backbone._layer("layer3"), backbone._layer("layer4")
    if isinstance(backbone, SequentialBackbone) and name == "mobilenet_v2":
        return backbone.features[7:14], backbone.features[14:]
    raise ValueError(f"semantic networks have ResNets or mobilenet_v2 as their backbone, got {name!r}")


def _stride_first(backbone: Backbone) -> None:
    """Move a bottleneck's stride to its first convolution and round up in the pool: the layout of the released weights.

    DeepLabV2's come from Caffe, and the released code has this form for ImageNet's weights too.
    """
    for module in backbone.modules():
        if isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
        elif isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True


def _convolutions(stage: Iterable[nn.Module]) -> Iterator[nn.Conv2d]:
    for block in stage:
        yield from (module for module in block.modules() if isinstance(module, nn.Conv2d))


def _take_classifier(head: DeepLabV2Head, state: Mapping[str, Tensor]) -> None:
    """Start the main head from a DeepLabV2's classifier, where it has as many classes."""
    for number, conv in enumerate(head.convs):
        key = f"layer5.conv2d_list.{number}"
        if f"{key}.weight" in state and state[f"{key}.weight"].shape == conv.weight.shape:
            conv.load_state_dict({name: state[f"{key}.{name}"] for name in ("weight", "bias")})


def _upsample(logits: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=True)
