"""Settings of a semantic segmentation network."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Le

from fss.core.config import settings
from fss.core.privacy import Public

Auxiliary = Literal["none", "deep", "shallow"]
LOWER_STAGES = 3
"""Stages of a backbone below its last one."""
FrozenNorm = Literal["all", "backbone", "none"]


@settings
class SemanticConfig:
    """What a semantic network is made of."""

    network: Literal["deeplabv2", "deeplabv3", "lraspp"] = "deeplabv3"
    """Architecture: DeepLabV2 as in the paper, torchvision's DeepLabV3 head, or its LR-ASPP head for light networks."""
    backbone: Annotated[str, Public()] = "resnet50"
    """Backbone: resnet18, resnet34, resnet50, resnet101, mobilenet_v2 or a plain vision transformer of timm, such as
    timm:vit_small_patch16_224.dino."""
    backbone_weights: str | Path | None = None
    """Backbone weights: a torch or safetensors file (of a backbone or a whole DeepLabV2, whose classifier is used where
    the number of classes fits), or "pretrained" to download ImageNet's. None: random weights."""
    stride: Literal[8, 16] = 8
    """Output stride: 8 as published, or 16, which is cheaper."""
    all_dilations: bool = True
    """Sum DeepLabV2's dilations 6, 12, 18 and 24 instead of 6 and 12 alone, as the released code did."""
    pixels: Literal["imagenet", "coco"] = "imagenet"
    """Normalisation that the weights were trained with: ImageNet's, or the means alone (DeepLab trained on COCO), both
    for RGB order; reverse the input channels of the first convolution in weights from Caffe."""
    frozen_norm: FrozenNorm = "backbone"
    """BatchNorm layers that stay fixed: all, as published for DeepLabV2 (new ones then do nothing), those of the
    backbone, or none."""
    frozen_stages: Annotated[int, Ge(0), Le(4)] = 0
    """Stages of the backbone, from the input, whose weights stay fixed; they have the reductions 4, 8, 16 and 32."""
    seed: Annotated[int | None, tyro.conf.arg(name="init-seed")] = None
    """Seed of the random initial weights. None: the job's seed, which is 0 by default."""
