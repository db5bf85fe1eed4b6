"""Settings of a semantic segmentation network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Auxiliary = Literal["none", "deep", "shallow"]


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """What a semantic network is made of."""

    network: Literal["deeplabv2", "deeplabv3", "lraspp"] = "deeplabv3"
    """DeepLabV2 as in the paper, torchvision's DeepLabV3 head, or its LR-ASPP head for light networks."""
    backbone: str = "resnet50"
    """resnet18, resnet34, resnet50, resnet101 or mobilenet_v2."""
    backbone_weights: str | Path | None = None
    """Backbone weights: none (random), a state dict's path, or "pretrained" (ImageNet's, downloaded on demand). A whole
    DeepLabV2 is taken too: its classifier is used where the number of classes fits."""
    stride: Literal[8, 16] = 8
    """Output stride; 8 as published, 16 is cheaper."""
    all_dilations: bool = True
    """DeepLabV2: sum the dilations 6, 12, 18 and 24; off, only 6 and 12, as the released code did."""
    pixels: Literal["imagenet", "coco"] = "imagenet"
    """Normalisation that the weights were trained with: ImageNet's, or the means alone (DeepLab trained on COCO); both
    with red first: turn the first convolution of Caffe's weights around."""
    frozen_norm: bool = True
    """Leave all BatchNorm layers as they are, as published: the backbone's with its weights' statistics, those of new
    layers without effect. Otherwise they would learn the statistics of strongly augmented pictures too."""
    seed: int = 0
    """Seed of the random initial weights."""
