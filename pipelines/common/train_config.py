"""The settings of a training job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fss.config import config_hash, to_dict
from fss.episodes.augment import AugmentConfig
from fss.episodes.split import SplitConfig
from fss.models import SegmenterConfig
from fss.training.loop import TrainConfig
from fss.training.stream import StreamConfig
from pipelines.common.runs import TrackingConfig
from pipelines.common.trainer import ScaleConfig

Weights = Literal["better", "averaged", "raw"]


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
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    """The network."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """How episodes are read."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How masks are cut in two."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How views are drawn."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """The optimisation."""
    checkpoint_every: int = 500
    """Steps between checkpoints, each judged on the held-out pseudo-tasks."""
    held_out_tasks: int = 128
    """Most held-out pseudo-tasks to judge a checkpoint by."""
    select: Literal["best", "last"] = "best"
    """The training's result: the checkpoint that solves the held-out pseudo-tasks best, or the last."""
    weights: Weights = "better"
    """Weights of a checkpoint's model: the moving average, the raw ones, or what solves the held-out tasks better."""
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


_WITHOUT_EFFECT = {"threads", "ahead", "cache_gb", "cache_folder"}  # of the stream: how fast, not what


def work_hash(config: TrainJobConfig, data: Mapping[str, str]) -> str:
    """Return the hash of what decides the result: settings and ``data`` hashes, not places, workers or logging."""
    values: dict[str, Any] = to_dict(config)
    kept = ("segmenter", "stream", "split", "augment", "training", "checkpoint_every", "held_out_tasks", "weights")
    work = {name: values[name] for name in kept} | {"select": config.select}
    work["stream"] = {name: value for name, value in work["stream"].items() if name not in _WITHOUT_EFFECT}
    work["segmenter"] = {**work["segmenter"], "weights": data.get("weights")}
    return config_hash(work, dict(data))
