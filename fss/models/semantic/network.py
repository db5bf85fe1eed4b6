"""Semantic segmentation networks with C classes and an optional auxiliary head for noisy masks.

    network = build_semantic(SemanticConfig(backbone="mobilenet_v2", network="lraspp"), classes=11, auxiliary="deep")
    main, auxiliary = network(pixels)             # pixels [B,3,H,W] in 0..255 -> logits [B,C,H,W] each
    labels = network.predict(pixels)              # uint8 [B,H,W]

The heads are those of Ke et al. (A Three-Stage Self-Training Framework for Semi-Supervised Semantic Segmentation, IEEE
TIP 2022). The main head is g. The auxiliary head is g-hat (``deep``), which has its own last stage on the shared maps
at reduction 16, or g-tilde (``shallow``), which has only its own classifier on the last maps.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from fss.models.backbones.base import Backbone, MapSelection
from fss.models.backbones.factory import create_backbone
from fss.models.backbones.resnet import ResNetBackbone
from fss.models.backbones.sequential import SequentialBackbone
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD
from fss.models.semantic.config import LOWER_STAGES, Auxiliary, SemanticConfig
from fss.models.semantic.heads import DILATIONS, DeepLabV2Head, DeepLabV3Head, LrasppHead, build_auxiliary_stage
from fss.models.semantic.pyramid import WIDTH, SimplePyramid
from fss.models.weights.loading import load_strictly, load_weights
from fss.models.weights.state_dict import StateDict

PIXELS = {
    "imagenet": (tuple(255 * value for value in IMAGENET_MEAN), tuple(255 * value for value in IMAGENET_STD)),
    "coco": ((122.68, 116.67, 104.01), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation of red, green and blue, in 0..255, by the data that the backbone was trained on."""


class SemanticLogits(NamedTuple):
    """The output of a network."""

    main: Tensor
    """Logits [B,C,H,W] of the main head."""
    auxiliary: Tensor | None
    """Logits [B,C,H,W] of the auxiliary head; None without one."""


class LowerMaps(NamedTuple):
    """Maps of the backbone without its last stage, from which a network computes its logits."""

    low: Tensor
    """Map [B,C,H/8,W/8] at reduction 8."""
    shared: Tensor
    """Map [B,C,h,w] before the last stage."""
    size: tuple[int, int]
    """Height and width of the pictures."""

    def to(self, device: torch.device) -> "LowerMaps":
        """Return the maps on a device."""
        return LowerMaps(self.low.to(device), self.shared.to(device), self.size)


def concatenate(first: Tensor | LowerMaps, second: Tensor | LowerMaps) -> Tensor | LowerMaps:
    """Return the pictures, or the maps, of two batches as one."""
    if isinstance(first, LowerMaps):
        assert isinstance(second, LowerMaps)
        low, shared = (torch.cat(pair) for pair in ((first.low, second.low), (first.shared, second.shared)))
        return LowerMaps(low, shared, first.size)
    assert isinstance(second, Tensor)
    return torch.cat([first, second])


class SemanticNetwork(nn.Module):
    """A backbone, a main head and an optional auxiliary head. Use :func:`build_semantic` to create one."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: SemanticConfig, classes: int, auxiliary: Auxiliary, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.classes, self.auxiliary = config, classes, auxiliary
        self.backbone = backbone
        self.pyramid: SimplePyramid | None = None
        if (tokens := backbone.tokens) is not None:
            self.pyramid = SimplePyramid(
                tokens.network.embed_dim,
                tokens.patch,
                config.stride,
                low=config.network == "lraspp",
                shared=auxiliary == "deep",
            )
            low = shared = last = WIDTH
        else:
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
        frozen_stages = _first_stages(backbone, config)
        norm_owner: nn.Module | None = {"all": self, "backbone": backbone, "none": None}[config.frozen_norm]
        norms = [] if norm_owner is None else norm_owner.modules()
        self._frozen = [module for module in norms if isinstance(module, nn.BatchNorm2d)] + frozen_stages
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "SemanticNetwork":
        """Set the mode; frozen BatchNorm layers and stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, pixels: Tensor | LowerMaps) -> SemanticLogits:
        """Return the logits of RGB pictures [B,3,H,W], uint8 or float in 0..255, or of their :meth:`lower` maps."""
        if isinstance(pixels, LowerMaps):
            low, shared, size = pixels.low.float(), pixels.shared.float(), pixels.size
            last = shared
            for module in _last_stages(self.backbone, self.config.backbone)[1]:
                last = module(last)
        else:
            low, shared, last = self._levels(self._normalised(pixels))
            size = (pixels.shape[-2], pixels.shape[-1])
        main = _upsample(self.head(low, last), size)
        if self.auxiliary_head is None:
            return SemanticLogits(main, None)
        high = last if self.auxiliary_stage is None else self.auxiliary_stage(shared)
        return SemanticLogits(main, _upsample(self.auxiliary_head(low, high), size))

    @torch.no_grad()
    def lower(self, pixels: Tensor) -> LowerMaps:
        """Return the maps below the backbone's last stage, of pictures as in :meth:`forward`, in half precision.

        They stay valid while the network trains if the first three stages are frozen.
        """
        assert isinstance(self.backbone, (ResNetBackbone, SequentialBackbone)), "other backbones have no frozen stages"
        assert not any(module.training for module in self._frozen), "call train() or eval() first"
        _, (low,), (shared,) = self.backbone.first_stages(self._normalised(pixels), LOWER_STAGES)
        return LowerMaps(low.half(), shared.half(), (pixels.shape[-2], pixels.shape[-1]))

    def _normalised(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def _levels(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at reduction 8, before the last stage, and at the output stride."""
        if self.pyramid is not None:
            return self.pyramid(self.backbone.tokens, images)  # type: ignore[no-any-return]
        _, (low,), (shared,), (last,) = self.backbone(images)
        return low, shared, last

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> Tensor:
        """Return the main head's class of every pixel, uint8 [B,H,W], for pictures as in :meth:`forward`."""
        return self(pixels).main.argmax(1).to(torch.uint8)  # type: ignore[no-any-return]

    def parameter_groups(self, new: float, pretrained: float) -> list[dict[str, object]]:
        """Return parameter groups with the learning rate ``new`` for the heads and ``pretrained`` for the backbone."""
        backbone_ids = {id(parameter) for parameter in self.backbone.parameters()}
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            (new, [parameter for parameter in trainable if id(parameter) not in backbone_ids]),
            (pretrained, [parameter for parameter in trainable if id(parameter) in backbone_ids]),
        ]
        return [{"params": parameters, "lr": rate} for rate, parameters in groups if parameters]


def build_semantic(config: SemanticConfig, *, classes: int, auxiliary: Auxiliary = "none") -> SemanticNetwork:
    """Create a network with the initial weights that its configuration names.

    Args:
        config: architecture and weights.
        classes: C, including the background if it is a class.
        auxiliary: the auxiliary head: ``none``, ``deep`` (g-hat) or ``shallow`` (g-tilde).

    Raises:
        ValueError: the backbone is not supported, the weights do not fit, or ``pixels`` does not match the weights.
    """
    if config.backbone_weights in (None, "pretrained"):
        if config.pixels == "coco":
            raise ValueError(
                "pixels=coco goes with a DeepLabV2 trained on MS-COCO, got backbone_weights="
                f"{config.backbone_weights}; give the path of its state dict, or choose pixels=imagenet"
            )
        return construct_network(config, classes, auxiliary, pretrained=config.backbone_weights is not None)
    network = construct_network(config, classes, auxiliary, pretrained=False)
    backbone, what = network.backbone, f"the backbone {config.backbone}"
    state = load_weights(
        backbone, str(config.backbone_weights), what=what, translate=backbone.rename_weights, known=("layer5",)
    )
    if isinstance(network.head, DeepLabV2Head):
        _load_classifier(network.head, state)
    return network


def start_from(network: SemanticNetwork, trained: SemanticNetwork) -> None:
    """Give a network the backbone and the main head of a trained one; its auxiliary head keeps its own weights."""
    own, values = network.state_dict(), trained.state_dict()
    main = {name: value for name, value in values.items() if name in own and not name.startswith("auxiliary")}
    network.load_state_dict(own | main)


def construct_network(
    config: SemanticConfig, classes: int, auxiliary: Auxiliary, *, pretrained: bool
) -> SemanticNetwork:
    """Create a network whose backbone has random weights or the library's ImageNet weights.

    ``config.backbone_weights`` is not read; the other arguments are those of :func:`build_semantic`.
    """
    selection = MapSelection(keep=("none", "last", "last", "last"), activated=True)
    weights = "pretrained" if pretrained else None
    seed = config.seed or 0
    backbone = create_backbone(config.backbone, selection, backbone_weights=weights, seed=seed)
    _limit_stride(backbone, config)
    if config.network == "deeplabv2":
        _use_caffe_strides(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SemanticNetwork(config, classes, auxiliary, backbone).to(memory_format=torch.channels_last)


def _head(config: SemanticConfig, low: int, channels: int, classes: int) -> nn.Module:
    if config.network == "deeplabv2":
        return DeepLabV2Head(channels, classes, DILATIONS if config.all_dilations else DILATIONS[:2])
    if config.network == "deeplabv3":
        return DeepLabV3Head(channels, classes, config.stride)
    return LrasppHead(low, channels, classes)


def _limit_stride(backbone: Backbone, config: SemanticConfig) -> None:
    """Replace strides by dilation in the stages whose reduction would exceed the output stride."""
    if backbone.tokens is not None:
        return  # its pyramid has the output stride
    for reduction, stage in zip((16, 32), _last_stages(backbone, config.backbone), strict=True):
        if reduction > config.stride:
            for conv in _convolutions(stage):
                conv.stride = (1, 1)
                if conv.kernel_size == (3, 3):
                    conv.dilation = conv.padding = (reduction // config.stride,) * 2


def _first_stages(backbone: Backbone, config: SemanticConfig) -> list[nn.Module]:
    """Return the modules of the stages that stay fixed, and of the stem before them."""
    if not config.frozen_stages:
        return []
    if isinstance(backbone, ResNetBackbone):
        learning = {f"layer{number}" for number in range(config.frozen_stages + 1, LOWER_STAGES + 2)}
        return [module for name, module in backbone.named_children() if name not in learning]
    if isinstance(backbone, SequentialBackbone):
        return list(backbone.features[: backbone.stage_ends[config.frozen_stages - 1]])
    raise ValueError(
        f"frozen_stages freezes stages of a ResNet or of mobilenet_v2, got {config.frozen_stages} for "
        f"{config.backbone}; set --frozen-stages 0"
    )


def _last_stages(backbone: Backbone, name: str) -> tuple[Iterable[nn.Module], Iterable[nn.Module]]:
    if isinstance(backbone, ResNetBackbone):
        return backbone._layer("layer3"), backbone._layer("layer4")
    if isinstance(backbone, SequentialBackbone) and name == "mobilenet_v2":
        return backbone.features[7:14], backbone.features[14:]
    raise ValueError(
        "the backbone of a semantic network must be a ResNet or mobilenet_v2, or a plain vision transformer of timm, "
        f"such as timm:vit_small_patch16_224.dino; got {name!r}"
    )


def _use_caffe_strides(backbone: Backbone) -> None:
    """Move the stride of each bottleneck to its first convolution, and use ceil mode in the pool.

    The released DeepLabV2 weights were converted from Caffe and have this layout. The released code uses it for
    ImageNet weights too.
    """
    for module in backbone.modules():
        if isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
        elif isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True


def _convolutions(stage: Iterable[nn.Module]) -> Iterator[nn.Conv2d]:
    for block in stage:
        yield from (module for module in block.modules() if isinstance(module, nn.Conv2d))


def _load_classifier(head: DeepLabV2Head, state: StateDict) -> None:
    """Initialise the main head from the classifier of a DeepLabV2 state dict if it has the same number of classes."""
    for number, conv in enumerate(head.convs):
        key = f"layer5.conv2d_list.{number}"
        names = {name: f"{key}.{name}" for name in ("weight", "bias")}
        tensors = {name: state.tensors[full] for name, full in names.items() if full in state.tensors}
        if "weight" in tensors and tensors["weight"].shape == conv.weight.shape:
            load_strictly(conv, tensors, what=f"the classifier {key}", state=state)


def _upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)
