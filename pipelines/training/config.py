"""Settings of a training."""

import math
from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge

from fss.core import storage
from fss.core.config import config_hash, settings, to_dict
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models.config import NO_PRIOR, TRAINING_FREE, SegmenterConfig
from fss.training.few_shot.config import HELD_OUT_IOU, VAL_MIOU, ClassesConfig, OptimizerConfig, StreamConfig
from fss.training.lanes import check_lanes, check_share
from pipelines.runtime.config import FLAT, RequiredText, ScaleConfig, Subfolder, TrackingConfig

Loader = Literal["auto", "worker", "ray"]


@settings
class TrainSettings:
    """Settings of a training, without its inputs and outputs."""

    episodes: Literal["split", "classes"] = "split"
    """Kind of episodes: split pairs the two halves of one picture's mask, classes pairs pictures of one class."""
    segmenter: Annotated[SegmenterConfig, FLAT] = field(default_factory=SegmenterConfig)
    """Network."""
    stream: Annotated[StreamConfig, FLAT] = field(default_factory=StreamConfig)
    """Reading of the episodes."""
    optimizer: Annotated[OptimizerConfig, FLAT] = field(default_factory=OptimizerConfig)
    """Optimisation."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Splitting of masks, for split episodes."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of the views."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    """Classes to train and to validate on, for class episodes."""
    loader: Loader = "auto"
    """Decoder of photographs for split episodes: the training workers (worker) or Ray Data tasks on any CPU of the
    cluster (ray); auto selects ray on several machines."""
    checkpoint_every: Annotated[int, Ge(1)] = 500
    """Steps between checkpoints; each is validated."""
    held_out_tasks: Annotated[int, Ge(1)] = 128
    """Largest number of held-out pseudo-tasks that validate a checkpoint, for split episodes."""
    held_out_acceptance: str | None = None
    """Acceptance whose held-out pictures validate the checkpoints. None: the acceptance of the training."""
    select: Literal["best", "last"] = "best"
    """Checkpoint that becomes the model: the best by validation, or the last."""
    keep_weights: Literal["better", "averaged", "raw"] = "better"
    """Weights of a checkpoint's model: the moving average, the raw ones, or whichever validates better."""
    log_every: Annotated[int, Ge(1)] = 20
    """Steps between logged points of the curves."""
    scale: Annotated[ScaleConfig, FLAT] = field(default_factory=ScaleConfig)
    """Machines of the training."""
    log_model: bool = True
    """Log the resulting model to MLflow, ready to serve."""

    def __post_init__(self) -> None:
        if self.segmenter.learner in TRAINING_FREE:
            name = self.segmenter.learner
            raise ValueError(
                f"learner is {name}, which has nothing to train; evaluate it with python -m pipelines.evaluate "
                f"--learner {name} --backbone-weights FILE, or give another --learner"
            )
        if self.episodes == "split" and self.stream.held_out == 0:
            raise ValueError(
                "held_out is 0, but pictures that are held out choose the checkpoint of split episodes; give "
                "--held-out a share above 0"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        if self.episodes == "split":
            reasons = {"classes": "episodes is split, which has no classes; give --episodes classes"}
        else:
            reason = "it is for split episodes, but episodes is classes; give --episodes split"
            names = ("split", "loader", "held_out_tasks", "held_out_acceptance", "stream.lanes")
            reasons = dict.fromkeys(names, reason)
            if self.classes.val:
                named = " ".join(self.classes.val)
                reasons["stream.held_out"] = f"the validation classes are {named}; give --classes.val without a name"
        if self.keep_weights == "raw" and self.optimizer.ema > 0:
            reasons["optimizer.ema"] = "keep_weights is raw, so no average is kept; give --keep-weights averaged"
        return reasons

    @property
    def training_size(self) -> int:
        """Side of the pictures in training, in pixels."""
        return self.stream.training_size or self.segmenter.image_size

    @property
    def shots(self) -> int:
        """Number of supports in an episode."""
        return 1 if self.episodes == "split" else self.classes.shots

    @property
    def score(self) -> str:
        """Name of the metric that selects checkpoints."""
        return HELD_OUT_IOU if self.episodes == "split" else VAL_MIOU


@settings
class MixConfig:
    """Further collections in one training; each is drawn with its weight."""

    collections: tuple[str, ...] = ()
    """Further collections to train on beside --collection: local folders or s3:// URIs."""
    weights: tuple[float, ...] = ()
    """Weights of --collection and of each further collection, in this order. Empty: their numbers of pictures."""
    mask_sets: tuple[str, ...] = ()
    """Mask set of each further collection. Empty: the name that --mask-set gives, in all of them."""
    acceptances: tuple[str | None, ...] = ()
    """Acceptance of each further collection; None uses all masks. Empty: the name that --acceptance gives."""

    def __post_init__(self) -> None:
        count = len(self.collections)
        if self.weights and not count:
            raise ValueError("--mix.weights belong to several collections; name the others with --mix.collections")
        if self.weights and len(self.weights) != count + 1:
            raise ValueError(
                f"--mix.weights has {len(self.weights)} weights for {count + 1} collections; give one for --collection "
                "and one for each of --mix.collections, in this order"
            )
        if wrong := [weight for weight in self.weights if not 0 < weight < math.inf]:
            raise ValueError(
                f"--mix.weights must be above 0, got {wrong[0]:g}; leave a collection out that is not to be used"
            )
        for flag, names in (("mask-sets", self.mask_sets), ("acceptances", self.acceptances)):
            if names and len(names) != count:
                raise ValueError(
                    f"--mix.{flag} has {len(names)} names for {count} further collections; give one for each of "
                    "--mix.collections, or none"
                )


@settings
class TrainJobConfig(TrainSettings):
    """Settings of the training job."""

    collection: RequiredText = ""
    """Collection to train on: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set to train on."""
    acceptance: str | None = "default"
    """Acceptance that says which masks are used. None: all masks."""
    mix: MixConfig = field(default_factory=MixConfig)
    """Further collections."""
    output: RequiredText = ""
    """Folder of all trainings, reachable from every node; the job writes into the subfolder with its name."""
    name: Subfolder | None = None
    """Name of the training; a stopped training of the same name resumes. None: learner and configuration hash."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, the splits and the augmentation."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Delete an existing training of this name and start again."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = super().without_effect()
        if self.segmenter.saliency_prior is None:
            names = ("segmenter.density.prior_weight", "segmenter.density.prior_center")
            reasons |= dict.fromkeys(names, NO_PRIOR)
        return reasons


HELP = {
    "data": ("collection", "mask-set", "acceptance", "output", "name"),
    "network": ("learner", "masking", "backbone", "backbone-weights", "image-size"),
    "training": ("episodes", "steps", "batch-size", "learning-rate", "split.distractor", "seed"),
    "machine": ("workers", "device", "precision"),
}
"""Flags of the short help."""


Settings = TypeVar("Settings", bound=TrainSettings)


def train_job(training: TrainSettings, **job: Any) -> TrainJobConfig:
    """Return the training job with the settings ``training``; ``job`` are further fields of :class:`TrainJobConfig`."""
    return TrainJobConfig(**{each.name: getattr(training, each.name) for each in fields(TrainSettings)}, **job)


def with_seed(training: Settings, seed: int) -> Settings:
    """Fill in the seeds of network and stream that are None with the seed of the job."""
    segmenter, stream = training.segmenter, training.stream
    return replace(
        training,
        segmenter=replace(segmenter, seed=seed if segmenter.seed is None else segmenter.seed),
        stream=replace(stream, seed=seed if stream.seed is None else stream.seed),
    )


def with_absolute_paths(training: Settings) -> Settings:
    """Make the paths of weights, prior, cache and classes absolute, because workers run in other directories."""
    from pipelines.runtime.checkpoints import absolute_files

    cache, classes = training.stream.cache_folder, training.classes
    val_collection = classes.val_collection and storage.absolute_uri(classes.val_collection)
    split_folder = classes.split_folder and storage.absolute_uri(classes.split_folder)
    return replace(
        training,
        segmenter=absolute_files(training.segmenter),
        stream=replace(training.stream, cache_folder=cache and cache.absolute()),
        classes=replace(classes, val_collection=val_collection, split_folder=split_folder),
    )


def check_workers(training: TrainSettings) -> None:
    """Check that each worker has a share of every step.

    Raises:
        ValueError: there are more workers than lanes, or than episodes in a batch of class episodes.
    """
    if training.episodes == "classes":
        check_share(training.stream.batch_size, training.scale.workers)
    else:
        check_lanes(training.stream.lane_count, training.stream.batch_size, training.scale.workers)


# These settings change speed, not results.
_WITHOUT_EFFECT = {
    "stream": {"decode_threads", "decoders", "ahead", "cache_gb", "cache_folder"},
    "optimizer": {"accumulate", "compile"},
}


def work_hash(config: TrainJobConfig, data: Mapping[str, str]) -> str:
    """Return the hash of everything that determines the result: settings and ``data`` hashes.

    Paths, workers, logging and settings that only change speed are left out.
    """
    values: dict[str, Any] = to_dict(config)
    values |= {"stream": config.stream.identity(), "augment": config.augment.identity()}
    values["split"] = config.split.identity()
    kind = ("split", "held_out_tasks") if config.episodes == "split" else ("episodes",)
    names = ("segmenter", "stream", "augment", "optimizer", "checkpoint_every", "keep_weights", "select", *kind)
    work = {name: values[name] for name in names}
    if config.mix.collections:
        work["mix"] = {"weights": config.mix.weights}
    if config.episodes == "classes":  # the hashes of the data cover the classes and pictures
        work["classes"] = {"shots": config.classes.shots, "episodes": config.classes.episodes}
        if config.classes.draw != "balanced":
            work["classes"]["draw"] = config.classes.draw
    for group, without in _WITHOUT_EFFECT.items():
        work[group] = {name: value for name, value in work[group].items() if name not in without}
    # Lanes don't change class episodes; fss 0.2 hashed this number, so that its trainings resume.
    split = config.episodes == "split"
    work["stream"]["lanes"] = config.stream.lane_count if split else math.gcd(config.stream.batch_size, 8)
    work["segmenter"] = {**config.segmenter.identity(), "backbone_weights": data.get("weights")}
    work["segmenter"].pop("saliency_prior", None)  # its hash is in ``data``
    return config_hash(work, dict(data))
