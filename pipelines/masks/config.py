"""Settings of the jobs that make collections and masks: ingest, pseudomask, accept and train_saliency."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from fss.collection.config import AcceptanceRule, SourceConfig
from fss.core.config import settings
from fss.images.limits import DecodeLimits
from fss.saliency.config import (
    Fleet,
    SaliencyConfig,
    StudentConfig,
    StudentSettings,
    StudentTrainingConfig,
    ViTSettings,
)
from pipelines.runtime.config import FLAT, Device, RequiredText, TrackingConfig

Quantile = Annotated[float, Gt(0), Le(1)]


@settings
class IngestConfig:
    """Settings of the ingest job."""

    collection: RequiredText = ""
    """Collection to make or to extend: local folder or s3:// URI."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """Where the photographs come from."""
    name: str | None = None
    """Name of the collection. None: the folder's name."""
    part_size: Annotated[int, Ge(1)] = 64
    """Photographs in a part, the unit of work and resume."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    """Limits of a usable photograph; others are quarantined."""
    keep_bytes: bool = True
    """Copy the encoded photographs into the collection; otherwise it only points at them."""
    limit: Annotated[int, Ge(1)] | None = None
    """Most photographs to take, in the order of their paths. None: all."""
    append: bool = False
    """Add what the folder has gained since, as new parts."""
    overwrite: bool = False
    """Delete the existing collection with its mask sets and start again."""
    workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time. None: one more than there are cores, or what the cluster offers."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""


@settings
class PseudomaskSettings:
    """How pseudo-masks are found and accepted: everything but where they are read and written."""

    estimator: Literal["classical", "student", "vit"] = "classical"
    """Estimator of the masks: classical cues, a trained student, or a self-supervised vision transformer."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """The classical estimator."""
    student: str | None = None
    """File of the trained student, as pipelines.train_saliency writes it; for the estimator student."""
    vit: ViTSettings = field(default_factory=ViTSettings)
    """The vision transformer, for the estimator vit."""
    actors_per_gpu: Annotated[int, Ge(1)] = 1
    """Processes that share a GPU; several help where the edge refinement on the CPU keeps the GPU waiting."""
    accept_quantile: Quantile = 0.65
    """Share of the masks to accept, best first, among those that pass every gate."""

    def __post_init__(self) -> None:
        if (self.student is None) == (self.estimator == "student"):
            raise ValueError(
                f"estimator is {self.estimator!r} and student is {self.student!r}; give --estimator student together "
                "with --student FILE, or neither"
            )

    def estimator_settings(self) -> SaliencyConfig | StudentSettings | ViTSettings:
        """Return the settings of the estimator that finds the masks."""
        if self.estimator == "student":
            return StudentSettings(path=str(self.student))
        return self.vit if self.estimator == "vit" else self.saliency


@settings
class PseudomaskJobConfig(PseudomaskSettings):
    """Settings of the pseudo-mask job."""

    collection: RequiredText = ""
    """Collection to find masks for: local folder or s3:// URI."""
    output_mask_set: str = "saliency"
    """Name of the mask set to write."""
    acceptance: str = "default"
    """Name of the acceptance to write."""
    device: Device = "auto"
    """Device of a student or transformer; the classical estimator runs on the CPU."""
    workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time. None: one more than there are cores, or what the cluster offers."""
    limit: Annotated[int, Ge(1)] | None = None
    """Most images; only the first parts that hold this many are processed. None: all."""
    seed: int = 0
    """Seed of the random tiles of the contact sheets."""
    plan: bool = False
    """Measure a sample, print what the masks of fleet.images images would cost on the fleet, and stop."""
    fleet: Fleet = field(default_factory=Fleet)
    """The fleet that --plan computes for."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""
    overwrite: bool = False
    """Make every part again, also where the mask set was made with other settings."""


@settings
class AcceptConfig:
    """Settings of the acceptance job."""

    collection: RequiredText = ""
    """Collection of the mask set: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set to choose from."""
    acceptance: str = "default"
    """Name of the acceptance to write; an existing one of this name is replaced."""
    rule: Annotated[AcceptanceRule, FLAT] = field(default_factory=AcceptanceRule)
    """Which masks are accepted."""
    seed: int = 0
    """Seed of the random tiles of the contact sheets."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""


@settings
class TrainSaliencyConfig:
    """Settings of the training of a saliency student."""

    collection: RequiredText = ""
    """Collection to learn from: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set to learn from."""
    acceptance: str | None = "default"
    """Acceptance of the masks to trust at first. None: all masks that pass every gate."""
    output: RequiredText = ""
    """Folder of all students; this student goes into a folder of its name in it."""
    name: str | None = None
    """Name of the student. None: backbone and configuration hash."""
    images: Annotated[int, Ge(1)] = 10_000
    """Most pictures to learn from, in whole parts drawn at random; they stay in memory (7 GB at 10,000)."""
    student: Annotated[StudentConfig, FLAT] = field(default_factory=StudentConfig)
    """The network."""
    training: Annotated[StudentTrainingConfig, FLAT] = field(default_factory=StudentTrainingConfig)
    """The optimisation."""
    seed: int = 0
    """Seed of the pictures that are drawn, the first weights, the order and the mirror images."""
    device: Device = "auto"
    """Device of the training."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""
    overwrite: bool = False
    """Start again, also where a student of this name exists."""


INGEST_HELP = {
    "data": ("collection", "source.path", "source.kind", "source.masks", "source.subset", "name"),
    "how": ("limit", "append", "keep-bytes", "part-size"),
    "machine": ("workers",),
}
PSEUDOMASK_HELP = {
    "data": ("collection", "output-mask-set", "limit"),
    "masks": ("estimator", "student", "accept-quantile", "acceptance", "plan"),
    "machine": ("workers", "device"),
}
ACCEPT_HELP = {
    "data": ("collection", "mask-set", "acceptance"),
    "rule": ("quantile", "scores", "gates", "within-clusters"),
}
TRAIN_SALIENCY_HELP = {
    "data": ("collection", "mask-set", "acceptance", "output", "name", "images"),
    "network": ("backbone", "backbone-weights", "image-size"),
    "training": ("rounds", "epochs", "batch-size", "learning-rate", "seed"),
    "machine": ("device",),
}
