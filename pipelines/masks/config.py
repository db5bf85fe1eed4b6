"""Settings of the jobs that make collections and masks: ingest, pseudomask, accept and train_saliency."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le

from fss.collection.config import DUPLICATE_DISTANCE, MOST_DUPLICATE_DISTANCE, PART_BYTES, AcceptanceRule, SourceConfig
from fss.core.config import settings
from fss.images.limits import DecodeLimits
from fss.models.config import Precision
from fss.models.saliency.config import StudentConfig
from fss.saliency.config import (
    Fleet,
    SaliencyConfig,
    StudentSettings,
    StudentTrainingConfig,
    ViTSettings,
)
from pipelines.runtime.config import (
    FLAT,
    Device,
    PartFailureConfig,
    RequiredText,
    SetName,
    Subfolder,
    TrackingConfig,
)

Quantile = Annotated[float, Gt(0), Le(1)]


@settings
class IngestConfig:
    """Settings of the ingest job."""

    collection: RequiredText = ""
    """Collection to create or extend: local folder or s3:// URI."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """Source of the photographs."""
    name: str | None = None
    """Name of the collection. None: the folder's name."""
    part_size: Annotated[int, Ge(1)] | None = None
    """Photographs per part, which is the unit of work and resume. None: 64, and more where there are over 1,024 parts,
    up to --part-bytes."""
    part_bytes: Annotated[int, Ge(1)] = PART_BYTES
    """Largest size of a part in bytes, without --part-size."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    """Limits of usable photographs; others are listed as unusable, with the reason."""
    keep_bytes: bool = True
    """Copy the encoded photographs into the collection; otherwise it only refers to them."""
    limit: Annotated[int, Ge(1)] | None = None
    """Largest number of photographs, in the order of their paths. None: all."""
    append: bool = False
    """Add photographs that are new in the source as new parts."""
    overwrite: bool = False
    """Delete the existing collection with its mask sets and start again."""
    drop_duplicates: bool = False
    """Quarantine photographs that nearly repeat an earlier one of the collection, or one of --distinct-from."""
    distinct_from: tuple[str, ...] = ()
    """Collections whose photographs must not be repeated, such as that of the evaluation, with --drop-duplicates."""
    duplicate_distance: Annotated[int, Interval(ge=0, le=MOST_DUPLICATE_DISTANCE)] = DUPLICATE_DISTANCE
    """Largest number of bits, of 64, in which the perceptual hashes of near-duplicates differ."""
    workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time. None: one more than there are cores, or what the cluster has."""
    failures: Annotated[PartFailureConfig, FLAT] = field(default_factory=PartFailureConfig)
    """Parts that fail."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""

    def __post_init__(self) -> None:
        if self.distinct_from and not self.drop_duplicates:
            raise ValueError(
                "distinct_from names collections whose photographs must not be repeated, but drop_duplicates is off; "
                "give --drop-duplicates as well"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if not self.drop_duplicates:
            reasons["duplicate_distance"] = "drop_duplicates is off; give --drop-duplicates"
        if self.part_size is not None:
            reasons["part_bytes"] = f"part_size is {self.part_size}; leave --part-size out"
        return reasons


@settings
class PseudomaskSettings:
    """Settings of pseudo-masks and their acceptance, without inputs and outputs."""

    estimator: Literal["classical", "student", "vit"] = "classical"
    """Estimator of the masks: classical cues, a trained student, or a self-supervised vision transformer."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Classical estimator."""
    student: str | None = None
    """File of a student that pipelines.train_saliency has trained, for the estimator student."""
    vit: ViTSettings = field(default_factory=ViTSettings)
    """Vision transformer, for the estimator vit."""
    actors_per_gpu: Annotated[int, Ge(1)] = 1
    """Processes that share a GPU; several help if the edge refinement on the CPU keeps the GPU waiting."""
    accept_quantile: Quantile = 0.65
    """Share of the masks to accept, best first, among those that pass every gate."""

    def __post_init__(self) -> None:
        if (self.student is None) == (self.estimator == "student"):
            raise ValueError(
                f"estimator is {self.estimator!r} and student is {self.student!r}; give --estimator student together "
                "with --student FILE, or neither"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        return {} if self.estimator == "vit" else {"vit": f"estimator is {self.estimator}; give --estimator vit"}

    def estimator_settings(self) -> SaliencyConfig | StudentSettings | ViTSettings:
        """Return the settings of the selected estimator."""
        if self.estimator == "student":
            return StudentSettings(path=str(self.student))
        return self.vit if self.estimator == "vit" else self.saliency


@settings
class PseudomaskJobConfig(PseudomaskSettings):
    """Settings of the pseudo-mask job."""

    collection: RequiredText = ""
    """Collection to make masks for: local folder or s3:// URI."""
    output_mask_set: SetName = "saliency"
    """Name of the mask set to write."""
    acceptance: SetName = "default"
    """Name of the acceptance to write."""
    device: Device = "auto"
    """Device of a student or transformer; the classical estimator runs on the CPU."""
    precision: Precision = "fp32"
    """Precision of a network's arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time. None: one more than there are cores, or what the cluster has."""
    failures: Annotated[PartFailureConfig, FLAT] = field(default_factory=PartFailureConfig)
    """Parts that fail."""
    limit: Annotated[int, Ge(1)] | None = None
    """Number of images; the job processes the first parts that hold this many. None: all."""
    seed: int = 0
    """Seed of the random masks on the contact sheets."""
    plan: bool = False
    """Time a sample, print the estimated cost of many images (--fleet.images, --fleet.cores), and stop."""
    fleet: Fleet = field(default_factory=Fleet)
    """Fleet of the estimate of --plan."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Make every part again, even if the mask set was made with other settings."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = super().without_effect()
        if self.estimator != "classical":
            reasons["saliency"] = f"estimator is {self.estimator}; give --estimator classical"
        else:
            reasons["actors_per_gpu"] = "the classical estimator runs on the CPU; give --estimator student or vit"
        if not self.plan:
            reasons["fleet"] = "it is for the estimate of --plan; give --plan"
        return reasons


@settings
class AcceptConfig:
    """Settings of the acceptance job."""

    collection: RequiredText = ""
    """Collection of the mask set: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set whose masks are selected."""
    acceptance: SetName = "default"
    """Name of the acceptance to write; it replaces an existing one of the same name."""
    rule: Annotated[AcceptanceRule, FLAT] = field(default_factory=AcceptanceRule)
    """Rule of the acceptance."""
    seed: int = 0
    """Seed of the random masks on the contact sheets."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""


@settings
class TrainSaliencySettings:
    """Settings of the training of a saliency student, without its inputs and outputs."""

    images: Annotated[int, Ge(1)] = 10_000
    """Number of pictures to learn from, in whole random parts; they stay in memory (7 GB for 10,000)."""
    student: Annotated[StudentConfig, FLAT] = field(default_factory=StudentConfig)
    """Network."""
    training: Annotated[StudentTrainingConfig, FLAT] = field(default_factory=StudentTrainingConfig)
    """Optimisation."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        if not self.student.frozen:
            return {}
        return {"training.backbone_learning_rate": "the backbone is frozen; switch frozen off"}


@settings
class TrainSaliencyConfig(TrainSaliencySettings):
    """Settings of the training of a saliency student."""

    collection: RequiredText = ""
    """Collection to learn from: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set to learn from."""
    acceptance: str | None = "default"
    """Acceptance of the masks that are trusted initially. None: all masks that pass every gate."""
    output: RequiredText = ""
    """Folder of all students; the job writes into the subfolder with its name."""
    name: Subfolder | None = None
    """Name of the student. None: backbone and configuration hash."""
    seed: int = 0
    """Seed of the drawn pictures, the initial weights, the order of the data and the mirroring."""
    device: Device = "auto"
    """Device of the training."""
    precision: Precision = "fp32"
    """Precision of the arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Delete an existing student of this name and start again."""


INGEST_HELP = {
    "data": ("collection", "source.path", "source.kind", "source.subset", "name"),
    "masks": ("source.masks", "source.colors", "source.classes"),
    "how": ("limit", "append", "keep-bytes", "source.order", "part-bytes", "drop-duplicates", "distinct-from"),
    "machine": ("workers",),
}
PSEUDOMASK_HELP = {
    "data": ("collection", "output-mask-set", "limit"),
    "masks": ("estimator", "student", "accept-quantile", "acceptance", "plan"),
    "machine": ("workers", "device", "precision"),
}
ACCEPT_HELP = {
    "data": ("collection", "mask-set", "acceptance"),
    "rule": ("quantile", "scores", "gates", "within-clusters"),
}
TRAIN_SALIENCY_HELP = {
    "data": ("collection", "mask-set", "acceptance", "output", "name", "images"),
    "network": ("backbone", "backbone-weights", "image-size"),
    "training": ("rounds", "epochs", "batch-size", "learning-rate", "seed"),
    "machine": ("device", "precision"),
}
