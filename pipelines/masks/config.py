"""Settings of the jobs that make collections and masks."""

from dataclasses import dataclass, field
from typing import Literal

import tyro

from fss.collection.config import AcceptanceRule
from fss.collection.sources import SourceConfig
from fss.images.limits import DecodeLimits
from fss.saliency import SaliencyConfig
from fss.saliency.config import Fleet, StudentConfig, StudentTrainingConfig, ViTSettings
from pipelines.runtime.config import TrackingConfig


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """Settings of the ingest job."""

    collection: str
    """The collection to make or to add to: local folder or s3:// URI."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """Where the photographs come from."""
    name: str | None = None
    """Name of the collection; None: the folder's name."""
    part_size: int = 64
    """Photographs in a part, the unit of work and resume."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    """What a photograph may be; others are quarantined."""
    keep_bytes: bool = True
    """Copy the encoded photographs into the collection; otherwise it only points at them."""
    limit: int | None = None
    """Only the first so many photographs, by path."""
    append: bool = False
    """Add what the folder has gained since, as new parts."""
    overwrite: bool = False
    """Delete the collection that is there, its mask sets included, and start again."""
    workers: int | None = None
    """Parts at a time; None: one more than there are cores, or what the cluster offers."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""


@dataclass(frozen=True, kw_only=True)
class PseudomaskConfig:
    """Settings of the pseudo-mask job."""

    collection: str
    """The collection: local folder or s3:// URI."""
    name: str = "saliency"
    """Name of the mask set to write."""
    estimator: Literal["classical", "student", "vit"] = "classical"
    """What finds the masks: cues and a colour model, a trained student, or a self-supervised transformer."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """The classical estimator."""
    student: str | None = None
    """The student's file, as ``pipelines.train_saliency`` writes it."""
    vit: ViTSettings = field(default_factory=ViTSettings)
    """The transformer."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where a student or transformer runs."""
    actors_per_gpu: int = 1
    """Processes that share a GPU; more than one where following the edges, which the CPU does, keeps it waiting."""
    accept_quantile: float = 0.65
    """Share of the masks to accept, best first, among those that pass every gate."""
    acceptance: str = "default"
    """Name of the acceptance file; a cheap later filter over the stored scores."""
    workers: int | None = None
    """Parts at a time; None: one more than there are cores, or what the cluster offers."""
    limit: int | None = None
    """Only the first parts that hold this many images."""
    seed: int = 0
    """Chooses the random tiles of the contact sheets."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    plan: bool = False
    """Measure a sample, say what the masks of ``fleet.images`` images would cost on the fleet, and stop."""
    fleet: Fleet = field(default_factory=Fleet)
    """What ``plan`` plans."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Make every part again, also when the mask set was made with other settings."""


@dataclass(frozen=True, kw_only=True)
class AcceptConfig:
    """Settings of the acceptance job."""

    collection: str
    """The collection: local folder or s3:// URI."""
    name: str = "saliency"
    """The mask set."""
    acceptance: str = "default"
    """Name of the acceptance to write."""
    rule: tyro.conf.OmitArgPrefixes[AcceptanceRule] = field(default_factory=AcceptanceRule)
    """Which masks are accepted."""
    seed: int = 0
    """Chooses the random tiles of the contact sheets."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""


@dataclass(frozen=True, kw_only=True)
class TrainSaliencyConfig:
    """Settings of the student's job."""

    collection: str
    """The collection: local folder or s3:// URI."""
    output: str
    """Folder of all students; this one goes into a folder of its name below."""
    name: str | None = None
    """Name of the student; None: backbone and configuration hash."""
    mask_set: str = "saliency"
    """Mask set to learn from."""
    acceptance: str | None = "default"
    """Which of its masks to trust at first; None: all that pass every gate."""
    images: int = 10_000
    """At most about this many pictures, in whole parts drawn at random; they stay in memory, with their maps 7 GB."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """The network. Weights trained without labels keep the whole way free of labels; ImageNet's were trained with."""
    training: StudentTrainingConfig = field(default_factory=StudentTrainingConfig)
    """The optimisation."""
    device: str = "cpu"
    """Where it trains: cpu, cuda, cuda:1."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Start again, also when a student of this name exists."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images is 1 or more, got {self.images}; thousands make a good student")
