"""Settings of the three-stage framework."""

import math
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal[1, 2, 3]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """How long a stage lasts, and what a step sees."""

    steps: int
    """Optimiser steps."""
    labelled: int
    """Labelled pictures in a step."""
    pool: int
    """Pictures of the pool in a step; none in stage 1."""


@dataclass(frozen=True, kw_only=True)
class ThreeStageConfig:
    """The optimisation of all stages; the defaults are the released ones, for Cityscapes."""

    first: StageConfig = StageConfig(steps=20_000, labelled=4, pool=0)
    """Stage 1."""
    second: StageConfig = StageConfig(steps=60_000, labelled=1, pool=4)
    """Stage 2."""
    third: StageConfig = StageConfig(steps=60_000, labelled=1, pool=4)
    """Stage 3."""
    learning_rate: float = 3e-5
    """Of Adam, for new layers."""
    backbone_learning_rate: float = 3e-6
    """Of Adam, for the backbone."""
    decay: Literal["constant", "poly"] = "constant"
    """How the rates fall: not at all, or by (1 - step / steps) ** 0.9."""
    supervised_weight: float = 0.5
    """Weight of the loss against the truth."""
    consistency_weight: float = 0.5
    """Weight of the mean of the losses against the teacher and against the masks of the stage before."""
    ema: tuple[tuple[int, float], ...] = ((0, 0.99), (20, 0.995), (40, 0.9975), (50, 0.999))
    """Decay of the teacher from an epoch on."""
    epoch_steps: int = 1000
    """Steps of such an epoch."""
    ramp_up: int = 0
    """Steps over which the weight of the teacher's answers grows, by exp(-5 (1 - r)^2); 0: at once, as released. In a
    short training the first answers are worth little."""
    confidence: float | None = None
    """Teacher's answers below this probability are ignored, and left out of the masks; none: all count."""

    def __post_init__(self) -> None:
        stages = (self.first, self.second, self.third)
        if min(min(stage.steps, stage.labelled) for stage in stages) < 1 or self.epoch_steps < 1:
            raise ValueError("steps, labelled pictures in a step, and epoch_steps are 1 or more in every stage")
        if self.first.pool or min(self.second.pool, self.third.pool) < 1:
            raise ValueError("stage 1 has no pool, stages 2 and 3 have one of 1 or more pictures in a step")
        if min(self.learning_rate, self.backbone_learning_rate, self.ramp_up) < 0:
            raise ValueError(
                "learning rates and ramp_up are 0 or more, got "
                f"{self.learning_rate}, {self.backbone_learning_rate} and {self.ramp_up}"
            )
        if not self.ema or self.ema[0][0] != 0 or any(not 0 <= decay < 1 for _, decay in self.ema):
            raise ValueError(f"ema lists (epoch, decay) from epoch 0 on, decays within [0, 1); got {self.ema}")
        if self.confidence is not None and not 0 <= self.confidence < 1:
            raise ValueError(f"confidence lies within [0, 1), got {self.confidence}")

    def stage(self, number: Stage) -> StageConfig:
        """Return the settings of a stage."""
        return {1: self.first, 2: self.second, 3: self.third}[number]

    def loss_weights(self, step: int) -> dict[str, float]:
        """Return the weights of the parts of the loss in a step of stages 2 and 3, counted from 0."""
        half = self.consistency_weight / 2
        grown = math.exp(-5 * (1 - step / self.ramp_up) ** 2) if step < self.ramp_up else 1.0
        return {"supervised": self.supervised_weight, "consistency": half * grown, "pseudo": half}

    def teacher_decay(self, step: int) -> float:
        """Return the teacher's decay in a step, counted from 0."""
        epoch = step // self.epoch_steps
        return max((start, decay) for start, decay in self.ema if start <= epoch)[1]

    def rate_factor(self, step: int, steps: int) -> float:
        """Return what the learning rates are multiplied with in a step, counted from 0."""
        return 1.0 if self.decay == "constant" else float((1 - step / steps) ** 0.9)


@dataclass(frozen=True, kw_only=True)
class WeakConfig:
    """How every picture is seen in training."""

    crop: tuple[int, int] = (321, 321)
    """Height and width of what is cut out, pixels; smaller pictures get a margin that is ignored."""
    scales: tuple[float, float] = (0.5, 1.5)
    """Least and greatest scale, drawn in steps of 0.1 before the crop."""
    mirror: float = 0.5
    """Probability of a mirrored picture."""

    def __post_init__(self) -> None:
        if min(self.crop) < 8 or not 0 < self.scales[0] <= self.scales[1] or not 0 <= self.mirror <= 1:
            raise ValueError(
                "crop is 8 pixels or more a side, scales rise and lie above 0, mirror lies within [0, 1]; got "
                f"{self.crop}, {self.scales} and {self.mirror}"
            )


@dataclass(frozen=True, kw_only=True)
class StrongConfig:
    """How strongly pictures are changed; the defaults are the released ones."""

    operations: int = 3
    """Operations drawn for each picture, with replacement."""
    probability: float = 0.5
    """Of each drawn operation to be applied."""
    cutouts: int = 3
    """Squares cut out of each picture."""
    cutout_size: int = 32
    """Side of a square, pixels."""

    def __post_init__(self) -> None:
        if min(self.operations, self.cutouts) < 0 or not 0 <= self.probability <= 1 or self.cutout_size < 1:
            raise ValueError(
                "operations and cutouts are 0 or more, probability lies within [0, 1] and cutout_size is 1 or more; "
                f"got {self.operations}, {self.cutouts}, {self.probability} and {self.cutout_size}"
            )


@dataclass(frozen=True, kw_only=True)
class LabelledConfig:
    """Which pictures count as labelled; the truth of the others is never read."""

    mask_set: str = "truth"
    """Mask set with the labels; pictures without a mask in it are unlabelled."""
    count: int | None = None
    """Use only so many labelled pictures, drawn by the seed; none: all."""
    list_file: str | None = None
    """Text file, local or s3://, that names the labelled pictures, one a line: an image id, or the end of a path; more
    words on a line are left alone. None: all that have a mask."""
    seed: int = 0
    """Of the draw of ``count``."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is 1 or more labelled pictures, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class SemanticStreamConfig:
    """How pictures are read and changed."""

    weak: WeakConfig = field(default_factory=WeakConfig)
    """How every picture is seen."""
    strong: StrongConfig = field(default_factory=StrongConfig)
    """What is done to the student's view of the pool, on top."""
    shrink: int = 1
    """What the sides of all pictures are divided by before anything else: 2 for Cityscapes at half resolution."""
    lanes: int = 8
    """Logical lanes at most; fewer where a batch is smaller. There are at most as many workers."""
    seed: int = 0
    """Seed of the order and the augmentation."""
    decode_threads: int = 2
    """Decoding threads per worker."""
    ahead: int = 4
    """Steps that are made ahead of the training."""
    cache_gb: float = 2.0
    """Decoded pixels to keep, in gigabytes per worker."""

    def __post_init__(self) -> None:
        if min(self.shrink, self.lanes, self.decode_threads) < 1 or min(self.ahead, self.cache_gb) < 0:
            raise ValueError(
                "shrink, lanes and decode_threads are 1 or more, ahead and cache_gb 0 or more; got "
                f"{self.shrink}, {self.lanes}, {self.decode_threads}, {self.ahead} and {self.cache_gb}"
            )
