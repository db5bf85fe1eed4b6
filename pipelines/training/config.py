"""The settings of a training job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fss.core.config import config_hash, to_dict
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models import SegmenterConfig
from fss.training.few_shot.config import HELD_OUT_IOU, VAL_MIOU, ClassesConfig, OptimizerConfig, StreamConfig
from pipelines.runtime.config import ScaleConfig, TrackingConfig

Weights = Literal["better", "averaged", "raw"]
Loader = Literal["auto", "worker", "ray"]


@dataclass(frozen=True, kw_only=True)
class TrainJobConfig:
    """Settings of the training job."""

    collection: str
    """The collection: local folder or s3:// URI."""
    output: str
    """Folder of all trainings, reached by every node; this one goes into a folder of its name below."""
    name: str | None = None
    """Name of the training; None: learner and configuration hash. The same name goes on where it stopped."""
    mask_set: str = "saliency"
    """Mask set to train on."""
    acceptance: str | None = "default"
    """Which of its masks to use; None: all."""
    episodes: Literal["split", "classes"] = "split"
    """What an episode is: the halves of one picture's mask (split), or different pictures of one class (classes)."""
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    """The network."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """How episodes are read."""
    loader: Loader = "auto"
    """Who decodes photographs for split episodes: the training workers, which keep them as canvases (worker), or Ray
    Data tasks on any CPU of the cluster, for collections of any size (ray); auto: ray on several machines."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How masks are cut in two; for split episodes."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    """The classes to train and to validate on; for class episodes."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How views are drawn."""
    training: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimisation."""
    checkpoint_every: int = 500
    """Steps between checkpoints, each judged on held-out pseudo-tasks, or on episodes of the validation classes."""
    held_out_tasks: int = 128
    """Most held-out pseudo-tasks to judge a checkpoint by; for split episodes."""
    held_out_acceptance: str | None = None
    """Acceptance whose held-out pictures judge the checkpoints; None: the one that is trained on. Name one to compare
    trainings on different acceptances by the same tasks."""
    select: Literal["best", "last"] = "best"
    """The training's result: the checkpoint that is judged best, or the last."""
    weights: Weights = "better"
    """Weights of a checkpoint's model: the moving average, the raw ones, or what is judged better."""
    log_every: int = 20
    """Steps between points of the curves."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """On what it runs."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    log_model: bool = True
    """Log the resulting model to MLflow, ready to serve."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Start again, also when a training of this name exists."""

    def __post_init__(self) -> None:
        if min(self.checkpoint_every, self.log_every, self.held_out_tasks) < 1:
            raise ValueError(
                "checkpoint_every, log_every and held_out_tasks are 1 or more, got "
                f"{self.checkpoint_every}, {self.log_every} and {self.held_out_tasks}"
            )

    @property
    def shots(self) -> int:
        """Supports of an episode."""
        return 1 if self.episodes == "split" else self.classes.shots

    @property
    def score(self) -> str:
        """Name of the score that checkpoints are judged by."""
        return HELD_OUT_IOU if self.episodes == "split" else VAL_MIOU


# How fast, not what.
_WITHOUT_EFFECT = {
    "stream": {"decode_threads", "ahead", "cache_gb", "cache_folder"},
    "training": {"accumulate", "compile"},
}


def work_hash(config: TrainJobConfig, data: Mapping[str, str]) -> str:
    """Return the hash of what decides the result: settings and ``data`` hashes, not places, workers or logging."""
    values: dict[str, Any] = to_dict(config)
    own = ("split", "held_out_tasks") if config.episodes == "split" else ("episodes",)
    kept = ("segmenter", "stream", "augment", "training", "checkpoint_every", "weights", "select", *own)
    work = {name: values[name] for name in kept}
    if config.episodes == "classes":  # which classes and pictures they are, the data's hashes say
        work["classes"] = {"shots": config.classes.shots, "episodes": config.classes.episodes}
    for part, names in _WITHOUT_EFFECT.items():
        work[part] = {name: value for name, value in work[part].items() if name not in names}
    work["segmenter"] = {**work["segmenter"], "backbone_weights": data.get("weights")}
    return config_hash(work, dict(data))
