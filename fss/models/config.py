"""The configuration of a segmenter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """What a segmenter is made of."""

    learner: Literal["masksplit", "hsnet", "asnet", "vat"] = "masksplit"
    """The network that compares query and support."""
    masking: Literal["none", "feature", "input", "hybrid"] = "none"
    """How the support mask enters the support features."""
    backbone: str = "resnet50"
    """A built-in backbone (resnet18, resnet50, resnet101, resnet101_deepstem, vgg16, mobilenet_v2) or a timm name."""
    backbone_weights: str | Path | None = None
    """Backbone weights: none (random), a state dict's path, or "pretrained" (the library's, downloaded on demand)."""
    image_size: int = 400
    """Side of the square images that the network is meant for, in pixels; other sizes work too."""
    frozen: bool | None = None
    """Whether the backbone's weights stay fixed; left out, they do exactly when weights are given."""
    drifting_batchnorm: bool = False
    """Let the BatchNorm statistics of a frozen backbone drift in training, as the released MaskSplit code did."""
    dilated: bool | None = None
    """Dilate the backbone's last stages (MaskSplit only); left out, bottleneck ResNets are dilated."""
    width: int = 128
    """Channels of MaskSplit's head, a multiple of 32."""
    similarity: bool = False
    """Show the network each query cell's likeness to the support's foreground and background (MaskSplit only; beyond
    the paper)."""
    benchmark: Literal["pascal", "coco", "fss"] = "pascal"
    """Which of VAT's appearance affinities are used: pascal layers 2 and 1, coco layer 1, fss layers 3, 2 and 1."""
    grid: int | None = None
    """Side of VAT's largest working grid, a multiple of 64; left out, 128 for images above 256 pixels and 64 below."""
    seed: Annotated[int | None, tyro.conf.arg(name="init-seed")] = None
    """Seed of the random initial weights. None: the job's seed, which is 0 by default."""


Fusion = Literal["vote_published", "mean_probability", "joint"]
