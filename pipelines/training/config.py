"""Settings of a training."""

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge

from fss.core import storage
from fss.core.config import config_hash, settings, to_dict
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models.config import SegmenterConfig
from fss.training.few_shot.config import HELD_OUT_IOU, VAL_MIOU, ClassesConfig, OptimizerConfig, StreamConfig
from pipelines.runtime.config import FLAT, RequiredText, ScaleConfig, TrackingConfig

Loader = Literal["auto", "worker", "ray"]


@settings
class TrainSettings:
    """What is trained and how: everything but where data are read and results are written."""

    episodes: Literal["split", "classes"] = "split"
    """Kind of episodes: split pairs the two halves of one picture's mask, classes pairs pictures of one class."""
    segmenter: Annotated[SegmenterConfig, FLAT] = field(default_factory=SegmenterConfig)
    """The network."""
    stream: Annotated[StreamConfig, FLAT] = field(default_factory=StreamConfig)
    """How episodes are read."""
    optimizer: Annotated[OptimizerConfig, FLAT] = field(default_factory=OptimizerConfig)
    """The optimisation."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How masks are split, for split episodes."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How views are augmented."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    """Classes to train and to validate on, for class episodes."""
    loader: Loader = "auto"
    """Decoder of photographs for split episodes: the training workers (worker) or Ray Data tasks on any CPU of the
    cluster (ray); auto takes ray on several machines."""
    checkpoint_every: Annotated[int, Ge(1)] = 500
    """Steps between checkpoints; each is validated."""
    held_out_tasks: Annotated[int, Ge(1)] = 128
    """Most held-out pseudo-tasks that validate a checkpoint, for split episodes."""
    held_out_acceptance: str | None = None
    """Acceptance whose held-out pictures validate the checkpoints. None: the one that is trained on."""
    select: Literal["best", "last"] = "best"
    """Checkpoint that becomes the model: the best by validation, or the last."""
    keep_weights: Literal["better", "averaged", "raw"] = "better"
    """Weights of a checkpoint's model: the moving average, the raw ones, or whichever validates better."""
    log_every: Annotated[int, Ge(1)] = 20
    """Steps between points of the logged curves."""
    scale: Annotated[ScaleConfig, FLAT] = field(default_factory=ScaleConfig)
    """What the training runs on."""
    log_model: bool = True
    """Log the resulting model to MLflow, ready to serve."""

    @property
    def shots(self) -> int:
        """Supports of an episode."""
        return 1 if self.episodes == "split" else self.classes.shots

    @property
    def score(self) -> str:
        """Name of the score that checkpoints are validated by."""
        return HELD_OUT_IOU if self.episodes == "split" else VAL_MIOU


@settings
class TrainJobConfig(TrainSettings):
    """Settings of the training job."""

    collection: RequiredText = ""
    """Collection to train on: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set to train on."""
    acceptance: str | None = "default"
    """Acceptance that says which masks are used. None: all masks."""
    output: RequiredText = ""
    """Folder of all trainings, reached by every node; this training goes into a folder of its name in it."""
    name: str | None = None
    """Name of the training; the same name continues where it stopped. None: learner and configuration hash."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, the splits and the augmentation."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""
    overwrite: bool = False
    """Start again, also where a training of this name exists."""


HELP = {
    "data": ("collection", "mask-set", "acceptance", "output", "name"),
    "network": ("learner", "masking", "backbone", "backbone-weights", "image-size"),
    "training": ("episodes", "steps", "batch-size", "learning-rate", "split.distractor", "seed"),
    "machine": ("workers", "device", "precision"),
}
"""Flags of the short help."""


Settings = TypeVar("Settings", bound=TrainSettings)


def train_job(what: TrainSettings, **where: Any) -> TrainJobConfig:
    """Return the configuration of a training job from its settings and the fields of :class:`TrainJobConfig`."""
    return TrainJobConfig(**{each.name: getattr(what, each.name) for each in fields(TrainSettings)}, **where)


def with_seed(what: Settings, seed: int) -> Settings:
    """Return settings whose own seeds, where they are not given, are the job's."""
    return replace(
        what,
        segmenter=replace(what.segmenter, seed=seed if what.segmenter.seed is None else what.segmenter.seed),
        stream=replace(what.stream, seed=seed if what.stream.seed is None else what.stream.seed),
    )


def with_absolute_paths(config: TrainJobConfig) -> TrainJobConfig:
    """Return the configuration with absolute paths: workers run in other directories."""
    from pipelines.runtime.checkpoints import absolute_weights

    cache, classes = config.stream.cache_folder, config.classes
    val_collection = classes.val_collection and storage.absolute_uri(classes.val_collection)
    split_folder = classes.split_folder and storage.absolute_uri(classes.split_folder)
    weights = absolute_weights(config.segmenter.backbone_weights)
    return replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        segmenter=replace(config.segmenter, backbone_weights=weights),
        stream=replace(config.stream, cache_folder=cache and cache.absolute()),
        classes=replace(classes, val_collection=val_collection, split_folder=split_folder),
    )


# These settings change speed, not results.
_WITHOUT_EFFECT = {
    "stream": {"decode_threads", "ahead", "cache_gb", "cache_folder"},
    "optimizer": {"accumulate", "compile"},
}


def work_hash(config: TrainJobConfig, data: Mapping[str, str]) -> str:
    """Return the hash of what decides the result: settings and ``data`` hashes, not paths, workers or logging."""
    values: dict[str, Any] = to_dict(config)
    own = ("split", "held_out_tasks") if config.episodes == "split" else ("episodes",)
    names = ("segmenter", "stream", "augment", "optimizer", "checkpoint_every", "keep_weights", "select", *own)
    work = {name: values[name] for name in names}
    if config.episodes == "classes":  # the data's hashes say which classes and pictures they are
        work["classes"] = {"shots": config.classes.shots, "episodes": config.classes.episodes}
    for group, without in _WITHOUT_EFFECT.items():
        work[group] = {name: value for name, value in work[group].items() if name not in without}
    work["segmenter"] = {**work["segmenter"], "backbone_weights": data.get("weights")}
    return config_hash(work, dict(data))
