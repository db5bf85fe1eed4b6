"""Settings of a relabelling."""

from dataclasses import field
from typing import Annotated

from annotated_types import Ge

from fss.collection.config import AcceptanceRule
from fss.core.config import settings
from fss.models.config import Precision
from fss.relabel.config import RelabelConfig, RoundGateConfig
from pipelines.masks.config import Quantile
from pipelines.runtime.config import FLAT, Device, PartFailureConfig, RequiredText, SetName, TrackingConfig


@settings
class LabelledShots:
    """Labelled shots of a class bank."""

    collection: str | None = None
    """Collection of the labelled pictures, which differs from the relabelled one; for --relabel.supports bank."""
    mask_set: str = "truth"
    """Mask set with their labels."""
    classes: str | None = None
    """Class split of the bank, such as train. None: all classes."""


@settings
class RelabelSettings:
    """Settings of a relabelling, without its inputs and outputs."""

    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    """Supports, views, and the decision from their votes."""
    accept_quantile: Quantile = 0.5
    """Share of the masks to accept: the best of each cluster, among those that pass every gate."""
    round_gate: RoundGateConfig = field(default_factory=RoundGateConfig)
    """Thresholds that new masks have to meet, without labels, before a training uses them."""
    truth_mask_set: str | None = None
    """Mask set with the ground truth of some pictures, which only serves to measure both mask sets."""
    precision: Precision | None = None
    """Precision of the arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast). None: bf16 on a GPU,
    fp32 elsewhere."""
    actors_per_gpu: Annotated[int, Ge(1)] = 1
    """Processes that share a GPU."""
    cache_gb: Annotated[float, Ge(0)] = 2.0
    """Gigabytes of support features that each process caches."""


@settings
class RelabelJobConfig(RelabelSettings):
    """Settings of the relabelling job."""

    collection: RequiredText = ""
    """Collection to relabel: local folder or s3:// URI."""
    model: RequiredText = ""
    """Segmenter: folder of a checkpoint (local or s3:// URI), or an MLflow model (models:/..., runs:/...)."""
    earlier: tuple[str, ...] = ()
    """Earlier checkpoints of the same training; their agreement with the last one becomes the score checkpoint."""
    mask_set: str = "saliency"
    """Mask set with the masks of the supports."""
    acceptance: str | None = "default"
    """Acceptance of the masks that can be supports. None: all masks."""
    output_mask_set: SetName = "round-1"
    """Name of the mask set to write."""
    output_acceptance: SetName = "default"
    """Name of the acceptance to write."""
    bank: LabelledShots = field(default_factory=LabelledShots)
    """Labelled shots, for --relabel.supports bank."""
    device: Device = "auto"
    """Device of the networks."""
    workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time. None: one more than there are cores, or what the cluster has."""
    failures: Annotated[PartFailureConfig, FLAT] = field(default_factory=PartFailureConfig)
    """Parts that fail."""
    limit: Annotated[int, Ge(1)] | None = None
    """Number of images; the job processes the first parts that hold this many. None: all."""
    seed: int = 0
    """Seed of the random masks on the contact sheets."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Make every part again, even if the mask set was made with other settings."""

    def __post_init__(self) -> None:
        if self.mask_set == self.output_mask_set:
            raise ValueError(
                f"mask_set and output_mask_set are both {self.mask_set!r}; give --output-mask-set another name, "
                "because new masks never overwrite the masks of their supports"
            )

        if self.relabel.supports != "bank" and self.bank != LabelledShots():
            raise ValueError(
                f"--bank.* name labelled shots, but relabel.supports is {self.relabel.supports!r} and takes none; give "
                "--relabel.supports bank, or leave --bank.* out"
            )

    def rule(self) -> AcceptanceRule:
        """Return the rule of the acceptance."""
        scores = ("view", "support", *(("checkpoint",) if self.earlier else ()))
        return AcceptanceRule(quantile=self.accept_quantile, scores=scores, within_clusters=True)


HELP = {
    "data": ("collection", "model", "mask-set", "acceptance", "output-mask-set"),
    "masks": ("relabel.supports", "relabel.foreground", "relabel.edges", "accept-quantile", "truth-mask-set", "limit"),
    "machine": ("workers", "device"),
}
"""Flags of the short help."""
