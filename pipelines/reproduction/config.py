"""Settings of a verification of published claims."""

from dataclasses import field
from typing import Annotated

from annotated_types import Ge

from fss.core.config import settings
from fss.episodes.config import ProtocolName
from pipelines.runtime.config import FLAT, Device, RequiredText, ScaleConfig, TrackingConfig


@settings
class Collections:
    """The labelled collections of the benchmarks."""

    pascal: str | None = None
    """Collection of VOC 2012 images with SBD's masks, for PASCAL-5i and for COCO-20i's models on it."""
    coco: str | None = None
    """Collection of COCO 2014 images, for COCO-20i."""
    fss: str | None = None
    """Collection of FSS-1000."""


@settings
class TrainingOverrides:
    """Departures from the published training of models that are missing; None keeps the published value."""

    collections: Collections = field(default_factory=Collections)
    """Training images: VOC's subset trainaug, COCO's train2014; FSS-1000 has them in the collection that is tested."""
    steps: Annotated[int, Ge(1)] | None = None
    """Optimiser steps of each model. None: as published."""
    batch_size: Annotated[int, Ge(1)] | None = None
    """Episodes per step; the published number of episodes is kept. None: as published."""
    image_size: Annotated[int, Ge(1)] | None = None
    """Side of the images in pixels. None: as published."""
    val_episodes: Annotated[int, Ge(1)] | None = None
    """Episodes that each checkpoint is validated by. None: as published."""
    scale: Annotated[ScaleConfig, FLAT] = field(default_factory=ScaleConfig)
    """What the trainings run on."""


@settings
class ReproduceConfig:
    """Settings of the verification."""

    output: RequiredText = ""
    """Folder of the ledger and of all evaluations; a verification that was stopped continues in its folder."""
    collections: Collections = field(default_factory=Collections)
    """Collections that the models are tested on."""
    models: str | None = None
    """Folder of the models: <model>-<masking>-<backbone>-<pascal, coco or fss>/fold<0 to 3> (FSS-1000: /model), each a
    checkpoint's folder or a published file (.pt, .pth, .safetensors)."""
    weights_folder: str | None = None
    """Folder of backbone weights <backbone>.pth, for trainings and for published files that hold no backbone. None:
    trainings download the library's."""
    train: bool = False
    """Train the models that are missing; a finished training is not repeated."""
    training: TrainingOverrides = field(default_factory=TrainingOverrides)
    """Departures from the published training."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code. None: lists are derived from the masks, which the ledger says."""
    claims: str | None = None
    """Ledger of claims in CSV. None: the published ones that come with the library."""
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
    """Text that the source of the claims to verify contains. None: all."""
    protocol: ProtocolName | None = None
    """Protocol that draws the episodes. None: the one of the model's authors."""
    episodes: Annotated[int, Ge(1)] | None = None
    """Episodes per fold. None: the protocol's number."""
    tolerance: Annotated[float, Ge(0)] = 0.5
    """Points that a result may lie below its claim and count as verified."""
    mask_set: str = "truth"
    """Mask set that holds the ground truth."""
    visualizations: Annotated[int, Ge(0)] = 2
    """Episodes to draw of each kind and fold."""
    device: Device = "auto"
    """Device of the evaluations."""
    workers: Annotated[int, Ge(0)] | None = None
    """Evaluation processes at a time. None: one per GPU, or per core; 0: this process, without Ray."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the runs are recorded."""
    dry_run: bool = False
    """Show the resolved settings, what is missing and what the verification would cost on this machine, and stop."""


HELP = {
    "claims": ("dataset", "model", "masking", "backbone", "shots"),
    "data": ("output", "collections.pascal", "collections.coco", "collections.fss", "models", "weights-folder"),
    "training": ("train", "training.steps", "training.workers", "training.device"),
    "machine": ("workers", "device", "episodes"),
}
"""Flags of the short help."""
