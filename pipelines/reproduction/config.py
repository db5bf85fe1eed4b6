"""Settings of a verification of published claims."""

from dataclasses import field
from typing import Annotated

from annotated_types import Ge

from fss.core.config import settings
from fss.episodes.config import ProtocolName
from fss.models.config import Precision
from pipelines.runtime.config import FLAT, Device, RequiredText, ScaleConfig, TrackingConfig


@settings
class Collections:
    """The labelled collections of the benchmarks."""

    pascal: str | None = None
    """Collection of VOC 2012 images with the masks of SBD, for PASCAL-5i and COCO to PASCAL."""
    coco: str | None = None
    """Collection of COCO 2014 images, for COCO-20i."""
    fss: str | None = None
    """Collection of FSS-1000."""


@settings
class TrainingOverrides:
    """Changes to the published training of missing models; None keeps the published value."""

    collections: Collections = field(default_factory=Collections)
    """Training images: subset trainaug of VOC, train2014 of COCO. FSS-1000 trains on its test collection."""
    saliency_mask_set: str = "saliency"
    """Mask set that MaskSplit trains on, in the collection of the training images."""
    steps: Annotated[int, Ge(1)] | None = None
    """Optimiser steps of each model. None: as published."""
    batch_size: Annotated[int, Ge(1)] | None = None
    """Episodes per step; the total number of episodes stays as published. None: as published."""
    image_size: Annotated[int, Ge(1)] | None = None
    """Side of the images in pixels. None: as published."""
    val_episodes: Annotated[int, Ge(1)] | None = None
    """Validation episodes of each checkpoint, which are held-out pseudo-tasks for MaskSplit. None: as published."""
    precision: Precision = "fp32"
    """Precision of the arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    compile: bool = False
    """Compile backbone and learner, which takes minutes at the start and makes steps on a GPU faster."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Passes that each worker's share of a batch is divided into, to save memory; the result is the same."""
    scale: Annotated[ScaleConfig, FLAT] = field(default_factory=ScaleConfig)
    """Machines of the trainings."""


@settings
class ReproduceConfig:
    """Settings of the verification."""

    output: RequiredText = ""
    """Folder of the ledger and of all evaluations; a stopped verification of the same folder resumes."""
    collections: Collections = field(default_factory=Collections)
    """Collections to evaluate the models on."""
    models: str | None = None
    """Folder of the models: <model>-<masking>-<backbone>-<pascal, coco or fss>/fold<0 to 3> (FSS-1000: /model), each a
    checkpoint's folder or a published file (.ckpt, .pt, .pth, .pth.tar, .safetensors). MaskSplit's may be one /model
    for all folds."""
    weights_folder: str | None = None
    """Folder of backbone weights, such as resnet50.pth, for trainings and for published files without a backbone. None:
    trainings download the library's."""
    train: bool = False
    """Train the models that are missing; a finished training is not repeated."""
    training: TrainingOverrides = field(default_factory=TrainingOverrides)
    """Changes to the published training."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code. None: lists are derived from the masks, as the ledger shows."""
    claims: str | None = None
    """CSV file of claims. None: the published claims that the library contains."""
    dataset: str | None = None
    """Benchmark of the claims to verify, such as PASCAL-5i. None: all."""
    model: str | None = None
    """Learner of the claims to verify, such as HSNet. None: all."""
    masking: str | None = None
    """Masking strategy of the claims to verify. None: all."""
    backbone: str | None = None
    """Backbone of the claims to verify, such as ResNet-50. None: all."""
    shots: Annotated[int, Ge(1)] | None = None
    """Supports of the claims to verify. None: all."""
    source: str | None = None
    """Part of the source of the claims to verify, such as ICCV 2021. None: all."""
    protocol: ProtocolName | None = None
    """Protocol that draws the episodes. None: the protocol of the model's authors."""
    episodes: Annotated[int, Ge(1)] | None = None
    """Episodes per fold. None: the protocol's number."""
    tolerance: Annotated[float, Ge(0)] = 0.5
    """Points by which a verified result may be below its claim."""
    mask_set: str = "truth"
    """Mask set that holds the ground truth."""
    visualizations: Annotated[int, Ge(0)] = 2
    """Episodes to draw of each kind and fold."""
    device: Device = "auto"
    """Device of the evaluations."""
    precision: Precision = "fp32"
    """Precision of the evaluations: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    workers: Annotated[int, Ge(0)] | None = None
    """Concurrent evaluations. None: one per GPU, or one per core without GPUs; 0: this process, without Ray."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the runs."""
    dry_run: bool = False
    """Show the resolved settings, the missing inputs with their layout, and the estimated hours on this machine of the
    claims that miss nothing, and stop."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        return {} if self.train else {"training": "train is off, so nothing is trained; give --train"}


HELP = {
    "claims": ("dataset", "model", "masking", "backbone", "shots"),
    "data": ("output", "collections.pascal", "collections.coco", "collections.fss", "models", "weights-folder"),
    "training": ("train", "training.steps", "training.workers", "training.device"),
    "machine": ("workers", "device", "episodes"),
}
"""Flags of the short help."""
