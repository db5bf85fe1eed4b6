"""Settings of a training: optimisation with its learning-rate schedule, episodes and classes."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge, Gt, Interval

from fss.core.config import settings, without_added
from fss.episodes.config import DrawMode, Order
from fss.images.limits import Decoding
from fss.models.config import Precision
from fss.training.lanes import check_lanes

Schedule = Literal["constant", "poly", "cosine"]


@settings
class OptimizerConfig:
    """How a segmenter is trained; the defaults are MaskSplit's published ones, but for length and averaging."""

    steps: Annotated[int, Ge(1)] = 1000
    """Optimiser steps of the whole training."""
    learning_rate: Annotated[float, Gt(0)] = 1e-4
    """Learning rate of Adam at the start of the schedule."""
    schedule: Schedule = "constant"
    """Schedule of the learning rate: constant, or falling to 0 as (1 - t) ** 0.9 (poly) or along half a cosine."""
    warmup: Annotated[int, Ge(0)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: Annotated[float, Ge(0)] = 1e-5
    """Weight decay of Adam, added to the gradient."""
    clip: Annotated[float, Gt(0)] | None = None
    """Largest norm of the gradient. None: the gradient is not clipped."""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights; with 0 the average equals the weights."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Passes that each worker's share of a batch is divided into, to save memory; the result is the same."""
    precision: Precision = "fp32"
    """Precision of the arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    compile: bool = False
    """Compile backbone and learner, which takes minutes at the start and makes steps on a GPU faster."""

    def __post_init__(self) -> None:
        if self.warmup > self.steps:
            raise ValueError(f"warmup is at most steps ({self.steps}), got {self.warmup}; lower warmup or raise steps")


def rate_factor(config: OptimizerConfig, step: int) -> float:
    """Return the multiplier of the learning rate in a step, counted from 0.

    It depends on the step alone, so that a resumed training continues exactly; torch's PolynomialLR, CosineAnnealingLR
    and LinearLR derive each rate from the rate before.
    """
    progress = step / config.steps
    decay = {"constant": 1.0, "poly": math.pow(1 - progress, 0.9), "cosine": (1 + math.cos(math.pi * progress)) / 2}
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return rise * decay[config.schedule]


HELD_OUT_IOU = "held_out_iou"
HELD_OUT_LOSS = "held_out_loss"
VAL_MIOU = "val_miou"


@settings
class StreamConfig:
    """How episodes are read."""

    batch_size: Annotated[int, Ge(1)] = 16
    """Episodes per training step, over all workers."""
    lanes: Annotated[int, Ge(1)] | None = None
    """Logical lanes of split episodes, at least as many as workers; the batch size is a multiple of it. None: half of
    the batch size, or the next smaller divisor, so that an episode has a partner for a distractor."""
    seed: Annotated[int | None, tyro.conf.arg(name="episode-seed")] = None
    """Seed of the order, the cuts and the augmentation of the episodes. None: the job's seed, which is 0 by default."""
    held_out: Annotated[float, Interval(ge=0, lt=1)] = 0.05
    """Share of the images that is never trained on and serves to choose the checkpoint."""
    training_size: Annotated[int, Ge(1)] | None = None
    """Side of the pictures in training, in pixels, where it is not the segmenter's image size. None: it is."""
    decode_threads: Annotated[int, Ge(1)] | None = None
    """Decoding threads or processes per worker. None: the machine's cores divided by its workers, at most 16."""
    decoders: Literal["auto", "threads", "processes"] = "auto"
    """Kind of decoders: threads, or processes, which do not delay the launch of kernels; auto takes processes where
    there is a GPU and a worker has 4 cores."""
    decoding: Decoding = "exact"
    """Decoding of photographs: exact as in predictions, or fast, which takes large JPEGs at a reduced scale and whose
    pixels differ by less than one grey level on average."""
    ahead: Annotated[int, Ge(0)] = 4
    """Batches to prepare ahead of the training; 0 prepares each one when it is needed."""
    cache_gb: Annotated[float, Ge(0)] | None = None
    """Size in gigabytes of the cache of decoded canvases that the workers of a machine share; 0 caches nothing. None:
    half of the memory, and at most half of the free disk."""
    cache_folder: Path | None = None
    """Folder on a node-local disk that keeps the cache for later trainings. None: a temporary file."""

    @property
    def lane_count(self) -> int:
        """Number of lanes of split episodes."""
        halves = range(1, self.batch_size // 2 + 1)
        return self.lanes or max((count for count in halves if self.batch_size % count == 0), default=1)

    def identity(self) -> dict[str, Any]:
        """Return the settings as plain values for a hash, without those that fss 0.2 lacked at their defaults."""
        return without_added(self, ("decoding", "training_size"))

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        return (
            {"cache_folder": "cache_gb is 0, so nothing is cached; give a larger --cache-gb"}
            if self.cache_gb == 0
            else {}
        )

    def __post_init__(self) -> None:
        check_lanes(self.lane_count, self.batch_size)


@settings
class ClassesConfig:
    """Class episodes: which classes are trained on, which validated on, and how many episodes are drawn of them."""

    benchmark: Literal["pascal", "coco", "fss"] | None = None
    """Public benchmark whose fold defines the classes of train, val and test. None: the collection's class splits."""
    fold: Annotated[int, Interval(ge=0, le=3)] | None = None
    """Fold of the benchmark, 0 to 3; FSS-1000 has none."""
    order: Order = "interleaved"
    """Assignment of COCO-20i's classes to the folds."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code, to train on the pictures of the published lists. None: all pictures."""
    train: tuple[str, ...] = ("train",)
    """Classes to train on: names of class splits, or of classes."""
    val: tuple[str, ...] = ("val",)
    """Classes to validate on: names of class splits, or of classes. Empty: a share of the training classes
    (--held-out) is held out. "test" chooses the checkpoint by the test classes, as published for PASCAL-5i and
    COCO-20i."""
    val_collection: str | None = None
    """Collection to validate on. None: the training's collection."""
    val_mask_set: str | None = None
    """Mask set to validate on. None: the one of the training mask set's name."""
    val_episodes: Annotated[int, Ge(1)] = 1000
    """Episodes to validate on, the same at every checkpoint."""
    shots: Annotated[int, Ge(1)] = 1
    """Supports per episode, in training and validation."""
    skip_small_classes: bool = False
    """Leave out classes with too few pictures for the shots, instead of refusing to train."""
    draw: DrawMode = "balanced"
    """Choice of an episode's class and query: every class equally often, or every picture of every class once
    (entries), so that classes are drawn as often as they occur."""
    episodes: Annotated[int, Ge(1)] | None = None
    """Episodes in an epoch. None: one for every picture of every class."""
    min_pixels: Annotated[int, Ge(1)] = 1
    """Smallest number of pixels of a class for a picture to be in its episodes."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if self.benchmark != "coco":
            reasons["order"] = "it is for the folds of COCO-20i; give --classes.benchmark coco"
        if self.benchmark == "fss":
            reasons["fold"] = "FSS-1000 has no folds; give another --classes.benchmark"
        return reasons
