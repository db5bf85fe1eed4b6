"""The settings of a verification of published claims."""

from dataclasses import dataclass, field

from fss.episodes.config import ProtocolName
from pipelines.runtime.config import ScaleConfig, TrackingConfig


@dataclass(frozen=True, kw_only=True)
class Collections:
    """The labelled collections that the benchmarks are tested on."""

    pascal: str | None = None
    """VOC 2012's validation images with SBD's masks (PASCAL-5i, and COCO-20i's models on it)."""
    coco: str | None = None
    """COCO 2014's validation images (COCO-20i)."""
    fss: str | None = None
    """FSS-1000."""


@dataclass(frozen=True, kw_only=True)
class TrainingChoice:
    """How models that are not there are trained; what is left out is as published."""

    collections: Collections = field(default_factory=Collections)
    """Training images: VOC's (subset trainaug), COCO's (train2014); FSS-1000's are in the collection that is tested."""
    steps: int | None = None
    """Optimiser steps of each model."""
    batch: int | None = None
    """Episodes per step; the published number of episodes is kept."""
    image_size: int | None = None
    """Pixels a side."""
    val_episodes: int | None = None
    """Episodes that each checkpoint is judged by."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """On what they are trained."""

    def __post_init__(self) -> None:
        if any(value is not None and value < 1 for value in (self.steps, self.batch, self.val_episodes)):
            raise ValueError(
                f"steps, batch and val_episodes are 1 or more, got {self.steps}, {self.batch} and {self.val_episodes}"
            )


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Settings of the verification."""

    output: str
    """Folder of the ledger and of all evaluations; a verification that was stopped goes on in its folder."""
    collections: Collections = field(default_factory=Collections)
    """What is tested on."""
    checkpoints: str | None = None
    """Folder of the models: <model>-<masking>-<backbone>-<pascal, coco or fss>/fold<0 to 3> (FSS-1000: /model), each a
    checkpoint's folder or a published file (.pt, .pth, .safetensors); names as in hsnet-hybrid-resnet50-pascal."""
    weights: str | None = None
    """Folder of backbone weights <backbone>.pth, to train with and for published files that hold no backbone; None:
    trainings download the library's."""
    train: bool = False
    """Train the models that are not among the checkpoints; a training that is finished is not done again."""
    training: TrainingChoice = field(default_factory=TrainingChoice)
    """How they are trained."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code; None derives the lists from the masks, which the ledger tells."""
    claims: str | None = None
    """A ledger of claims in CSV; None: the published ones that come with the library."""
    dataset: str | None = None
    """Only claims on this benchmark, such as PASCAL-5i."""
    model: str | None = None
    """Only claims of this learner, such as HSNet."""
    masking: str | None = None
    """Only claims with this masking strategy."""
    backbone: str | None = None
    """Only claims with this backbone, such as ResNet-50."""
    shots: int | None = None
    """Only claims with so many supports."""
    source: str | None = None
    """Only claims whose source contains this."""
    protocol: ProtocolName | None = None
    """How episodes are drawn; None: as the model's authors did (hsnet; ifsl for ASNet; masksplit for MaskSplit)."""
    episodes: int | None = None
    """Episodes per fold; None: the protocol's number."""
    tolerance: float = 0.5
    """Points that a figure may be below its claim and count as verified."""
    truth: str = "truth"
    """Mask set that holds the ground truth."""
    visualizations: int = 2
    """Episodes to draw of each kind and fold."""
    workers: int | None = None
    """As for the evaluation job."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the runs are recorded."""
    dry_run: bool = False
    """Say what is at hand, what is missing and what it would cost on this machine, and stop."""

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ValueError(f"the tolerance is 0 points or more, got {self.tolerance}")
