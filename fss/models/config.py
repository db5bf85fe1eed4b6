"""The configuration of a segmenter."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge, Gt, MultipleOf

from fss.core.config import settings, without_added
from fss.core.privacy import Public

Masking = Literal["none", "feature", "input", "hybrid"]
AUTO = "auto"
"""Saliency prior of a job that trains the student itself."""
TRAINING_FREE = ("density",)
"""Learners that have nothing to train."""
NO_PRIOR = "there is no saliency prior; give --saliency-prior"
"""Why the settings of a prior have no effect."""
_OF_ONE_LEARNER = {"width": "masksplit", "similarity": "masksplit", "grid": "vat", "benchmark": "vat"}


@settings
class DensityConfig:
    """Settings of the training-free learner density, which may also be a prior of MaskSplit."""

    bandwidth: Annotated[float, Gt(0)] = 20.0
    """Concentration of the densities: the factor of the cosine in the exponent."""
    smoothing: Annotated[float, Ge(0)] = 10.0
    """Concentration of the similarities between the query's cells, along which the log ratio is averaged; 0: it is
    not."""
    cut: float = 0.5
    """Log ratio of the densities above which a cell is foreground."""
    support_crop: bool = True
    """See each support also in a crop around its object."""
    prior_weight: Annotated[float, Ge(0)] = 6.0
    """Weight of the query's saliency in the logit, where the supports' saliency equals their masks; it needs a saliency
    prior."""
    prior_center: float = 0.35
    """Saliency that leaves the logit as it is."""


@settings
class SegmenterConfig:
    """What a segmenter is made of."""

    learner: Literal["masksplit", "hsnet", "asnet", "vat", "density"] = "masksplit"
    """The network that compares query and support; density needs no training."""
    masking: Masking = "none"
    """Masking strategy: where the support mask enters the support's features."""
    backbone: Annotated[str, Public()] = "resnet50"
    """Built-in backbone (resnet18, resnet50, resnet101, resnet101_deepstem, vgg16, mobilenet_v2) or a timm model, such
    as timm:convnext_tiny or the vision transformer timm:vit_small_patch14_reg4_dinov2.lvd142m."""
    backbone_weights: str | Path | None = None
    """Backbone weights: a torch or safetensors file (of several networks in it the one under "ema" or "teacher"), or
    "pretrained" to download the library's. None: random weights."""
    image_size: Annotated[int, Ge(1)] = 400
    """Side of the square images that the network is meant for, in pixels; other sizes work too."""
    frozen: bool | None = None
    """Keep the backbone's weights fixed. None: fixed if backbone weights are given, trained otherwise."""
    drifting_batchnorm: bool = False
    """Let the BatchNorm statistics of a frozen backbone drift in training, as the released MaskSplit code did."""
    dilated: bool | None = None
    """Dilate the backbone's last stages, or keep a vision transformer's own grid in them (masksplit and density only).
    None: vision transformers do, and bottleneck ResNets for masksplit."""
    width: Annotated[int, Ge(32), MultipleOf(32)] = 128
    """Channels of MaskSplit's head, a multiple of 32 because of its group normalisation."""
    similarity: bool = False
    """Give the network each query cell's similarity to the support's foreground and background (MaskSplit only; beyond
    the paper)."""
    density_prior: bool = False
    """Join the trained network's answer with that of the learner density: the network counts as far as the supports'
    saliency agrees with their masks (MaskSplit only; beyond the paper)."""
    benchmark: Literal["pascal", "coco", "fss"] = "pascal"
    """Benchmark whose appearance affinities VAT uses: pascal layers 2 and 1, coco layer 1, fss layers 3, 2 and 1."""
    grid: Annotated[int, Ge(1)] | None = None
    """Side of VAT's largest working grid, a multiple of 64. None: 128 for images above 256 pixels, else 64."""
    saliency_prior: str | Path | None = None
    """Saliency student whose map of the query the learner uses as a prior (density, or masksplit with a density prior):
    a student.safetensors of pipelines.train_saliency. In pipelines.masksplit, "auto" is the student of the job."""
    density: DensityConfig = field(default_factory=DensityConfig)
    """Settings of the learner density, and of MaskSplit's density prior."""
    seed: Annotated[int | None, tyro.conf.arg(name="init-seed")] = None
    """Seed of the random initial weights. None: the job's seed, which is 0 by default."""

    def identity(self) -> dict[str, Any]:
        """Return the settings as plain values for a hash, without those that fss 0.2 lacked at their defaults."""
        return without_added(self, ("density_prior", "saliency_prior", "density"))

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {
            name: f"it is for the learner {learner}, but learner is {self.learner}; give --learner {learner}"
            for name, learner in _OF_ONE_LEARNER.items()
            if learner != self.learner
        }
        if not (self.backbone_weights is not None if self.frozen is None else self.frozen):
            reasons["drifting_batchnorm"] = "the backbone is not frozen, so its statistics drift anyway; give --frozen"
        return reasons


def training_free_config(
    *, backbone: str | None = None, backbone_weights: str | Path | None = None, **settings: Any
) -> SegmenterConfig:
    """Return the settings of the segmenter that needs no training: ``density`` on a frozen backbone.

    Args:
        backbone: None takes MobileNetV2.
        backbone_weights: None takes the library's, which are downloaded.
        settings: further settings of :class:`SegmenterConfig`.
    """
    return SegmenterConfig(
        learner="density",
        backbone=backbone or "mobilenet_v2",
        backbone_weights=backbone_weights or "pretrained",
        frozen=True,
        **settings,
    )


Precision = Literal["fp32", "tf32", "bf16"]
"""Precision of the arithmetic; see ``fss.models.precision``."""
Backend = Literal["torch", "onnxruntime", "openvino"]
"""What runs a network that segments queries on a CPU; see ``fss.inference.converted``."""
Fusion = Literal["vote_published", "mean_probability", "joint"]
Scales = Literal["whole", "adaptive", "tiles"]
"""Scales in which a query is seen; see ``fss.models.scales``."""

_IMAGE_SIZES = {"pascal": 473, "coco": 417, "fss": 473}


def published_image_size(learner: str, benchmark: str) -> int:
    """Return the side of the images, in pixels, that a published network was made for."""
    return _IMAGE_SIZES[benchmark] if learner == "vat" else 400
