"""The settings of a relabelling job."""

from dataclasses import dataclass, field
from typing import Literal

from fss.collection.config import AcceptanceRule
from fss.relabel import RelabelConfig
from fss.relabel.config import RoundGateConfig
from pipelines.relabeling.task import LabelledShots
from pipelines.runtime.config import TrackingConfig


@dataclass(frozen=True, kw_only=True)
class RelabelJobConfig:
    """Settings of the relabelling job."""

    collection: str
    """The collection: local folder or s3:// URI."""
    checkpoint: str
    """The segmenter: folder of a checkpoint (local or s3:// URI), or an MLflow model (models:/..., runs:/...)."""
    earlier: tuple[str, ...] = ()
    """Earlier checkpoints of the same training; how far they agree with the last becomes the score ``checkpoint``."""
    source: str = "saliency"
    """Mask set of before: supports show its masks."""
    source_acceptance: str | None = "default"
    """Which of its masks may be supports; None: all."""
    name: str = "round-1"
    """Name of the mask set to write."""
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    """Supports, views, and what becomes of the votes."""
    bank: LabelledShots = field(default_factory=LabelledShots)
    """Labelled shots, where ``relabel.supports`` is bank."""
    accept_quantile: float = 0.5
    """Share of the masks to accept, best first within every cluster, among those that pass every gate."""
    acceptance: str = "default"
    """Name of the acceptance file; a cheap later filter over the stored scores."""
    go: RoundGateConfig = field(default_factory=RoundGateConfig)
    """What the new masks have to show to be worth training on; told without labels."""
    audit: str | None = None
    """Mask set with the truth of some of the pictures, to measure both mask sets against; nothing else reads it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the networks run."""
    actors_per_gpu: int = 1
    """Processes that share a GPU."""
    cache_gb: float = 2.0
    """Features of supports that each process keeps, in gigabytes; one that does not fit is encoded again."""
    workers: int | None = None
    """Parts at a time; None: one more than there are cores, or what the cluster offers."""
    limit: int | None = None
    """Only the first parts that hold this many images."""
    seed: int = 0
    """Chooses the random tiles of the contact sheets."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Make every part again, also when the mask set was made with other settings."""

    def rule(self) -> AcceptanceRule:
        """Return which masks are accepted."""
        scores = ("view", "support", *(("checkpoint",) if self.earlier else ()))
        return AcceptanceRule(quantile=self.accept_quantile, scores=scores, within_clusters=True)
