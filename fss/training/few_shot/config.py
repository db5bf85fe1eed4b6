"""How a segmenter is optimised: the settings, and the learning-rate schedule."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fss.episodes.config import Order
from fss.training.lanes import check_lanes

Schedule = Literal["constant", "poly", "cosine"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How a segmenter is trained; the defaults are MaskSplit's published ones, but for length and averaging."""

    steps: int = 1000
    """Optimiser steps in all."""
    learning_rate: float = 1e-4
    """Of Adam; what the schedule starts from."""
    schedule: Schedule = "constant"
    """How the rate falls to 0 over all steps: not at all, as (1 - t) ** 0.9 (poly), or along half a cosine."""
    warmup: int = 0
    """Steps over which the rate rises in a line from 0."""
    weight_decay: float = 1e-5
    """Of Adam, added to the gradient."""
    clip: float | None = None
    """Largest norm of the gradient; none leaves it."""
    ema: float = 0.999
    """Decay of the moving average of the weights; 0 follows the weights."""
    accumulate: int = 1
    """Passes that each worker's share of a batch is cut into, for memory; the result is the same."""
    precision: Precision = "fp32"
    """Numbers of the forward pass: fp32, or bf16 where that loses nothing (autocast)."""
    compile: bool = False
    """Compile backbone and learner: minutes at the start, faster steps on a GPU."""

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.learning_rate <= 0
            or self.weight_decay < 0
            or (self.clip is not None and self.clip <= 0)
        ):
            raise ValueError(
                "steps, learning_rate and clip are above 0 and weight_decay at least 0; got "
                f"{self.steps}, {self.learning_rate}, {self.clip} and {self.weight_decay}"
            )
        if self.accumulate < 1 or not 0 <= self.warmup <= self.steps:
            raise ValueError(
                f"accumulate is 1 or more and warmup lies within 0 and the steps ({self.steps}); "
                f"got {self.accumulate} and {self.warmup}"
            )


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


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How episodes are read."""

    batch_size: int = 16
    """Episodes per step, over all workers."""
    lanes: int = 8
    """Logical lanes; they divide the batch, and there are at most as many workers."""
    seed: Annotated[int | None, tyro.conf.arg(name="episode-seed")] = None
    """Seed of the order, the cuts and the augmentation of the episodes. None: the job's seed, which is 0 by default."""
    held_out: float = 0.05
    """Share of the images that is never trained on and serves to choose the checkpoint."""
    decode_threads: int = 2
    """Decoding threads per worker."""
    ahead: int = 4
    """Steps that are made ahead of the training; 0 makes each when it is asked for."""
    cache_gb: float = 4.0
    """Decoded canvases to keep, in gigabytes per worker (or per node, with a folder)."""
    cache_folder: Path | None = None
    """Folder on a node-local disk for the canvases, shared by the node's workers; none keeps them in memory."""

    def __post_init__(self) -> None:
        check_lanes(self.lanes, self.batch_size)
        if not 0 <= self.held_out < 1 or self.decode_threads < 1 or self.ahead < 0 or self.cache_gb < 0:
            raise ValueError(
                "held_out lies within [0, 1), decode_threads is 1 or more, ahead and cache_gb are 0 or more; got "
                f"{self.held_out}, {self.decode_threads}, {self.ahead} and {self.cache_gb}"
            )


@dataclass(frozen=True, kw_only=True)
class ClassesConfig:
    """Class episodes: which classes are trained on, which validated on, and how many episodes are drawn of them."""

    benchmark: Literal["pascal", "coco", "fss"] | None = None
    """Let train, val and test be the classes of a public benchmark's fold, and not the collection's class splits."""
    fold: int | None = None
    """Fold of the benchmark, 0 to 3; FSS-1000 has none."""
    order: Order = "interleaved"
    """How COCO-20i deals its classes to the folds."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code: train on the pictures of the published lists; None: on all that there are."""
    train: tuple[str, ...] = ("train",)
    """Classes to train on: names of class splits, or of classes."""
    val: tuple[str, ...] = ("val",)
    """Classes to validate on, in the same words; none: a share of the training classes (the stream's held_out) is held
    out. "test" chooses the checkpoint by the test classes, as was published for PASCAL-5i and COCO-20i."""
    val_collection: str | None = None
    """Collection to validate on; None: the one that is trained on."""
    val_mask_set: str | None = None
    """Its mask set; None: the name of the one that is trained on."""
    val_episodes: int = 1000
    """Episodes to validate on, the same ones at every checkpoint."""
    shots: int = 1
    """Supports per episode, in training and validation."""
    episodes: int | None = None
    """Episodes in an epoch; None: one for every picture of every class."""
    min_pixels: int = 1
    """Pictures that show less of a class are no episodes of it."""

    def __post_init__(self) -> None:
        if min(self.shots, self.val_episodes, self.min_pixels) < 1 or (self.episodes is not None and self.episodes < 1):
            raise ValueError(
                "shots, episodes, val_episodes and min_pixels are 1 or more, got "
                f"{self.shots}, {self.episodes}, {self.val_episodes} and {self.min_pixels}"
            )
