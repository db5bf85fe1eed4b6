"""Settings of the three-stage framework."""

import math
from dataclasses import field
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Gt, Interval

from fss.core.config import settings

Stage = Literal[1, 2, 3]
Start = Literal["backbone-weights", "stage-before"]
MaskTta = Literal["none", "flip", "multiscale"]
Target = Literal["hard", "confidence", "soft"]
Mix = Literal["none", "cutmix", "classmix"]


@settings
class StageConfig:
    """Length of a stage and the pictures of a step."""

    steps: Annotated[int, Ge(1)]
    """Optimiser steps of the stage."""
    labelled: Annotated[int, Ge(1)]
    """Labelled pictures per step."""
    pool: Annotated[int, Ge(0)]
    """Pictures of the pool per step, 0 in stage 1."""


@settings
class ThreeStageConfig:
    """The optimisation of all stages; the defaults are the released ones, for Cityscapes."""

    first: StageConfig = StageConfig(steps=20_000, labelled=4, pool=0)
    """Settings of stage 1."""
    second: StageConfig = StageConfig(steps=60_000, labelled=1, pool=4)
    """Settings of stage 2."""
    third: StageConfig = StageConfig(steps=60_000, labelled=1, pool=4)
    """Settings of stage 3."""
    learning_rate: Annotated[float, Ge(0)] = 3e-5
    """Learning rate of Adam for new layers."""
    backbone_learning_rate: Annotated[float, Ge(0)] = 9e-6
    """Learning rate of Adam for the backbone; the released code's 3e-6 counts three times, because its optimiser lists
    the convolutions three times."""
    decay: Literal["constant", "poly"] = "constant"
    """Decay of the learning rates: constant, or (1 - step / steps) ** 0.9 (poly)."""
    start: Start = "backbone-weights"
    """Initial weights of stages 2 and 3: those of the backbone, as released, or the model of the stage before."""
    class_balance: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Exponent p of the class weights frequency ** -p in the loss of the labelled pictures, with the frequencies of
    their labels; 0 is unweighted, as released."""
    supervised_weight: Annotated[float, Ge(0)] = 0.5
    """Weight of the supervised loss."""
    consistency_weight: Annotated[float, Ge(0)] = 0.5
    """Weight of the mean of two losses: against the teacher, and against the masks of the previous stage."""
    teacher_weight: Annotated[float, Ge(0)] | None = None
    """Weight of the loss against the teacher. None: half of the consistency weight, as released."""
    pseudo_weight: Annotated[float, Ge(0)] | None = None
    """Weight of the loss against the masks of the previous stage; 0 trains without an auxiliary head. None: half of the
    consistency weight, as released."""
    consistency_on: Literal["all", "pool"] = "all"
    """Pictures that learn from the teacher: the labelled ones and the pool in one mean, as released, or the pool alone
    with a mean of its own."""
    target: Target = "hard"
    """What the student learns from the teacher: its classes, as released (hard), its classes weighted by the square of
    their probability (confidence), or its probabilities (soft)."""
    ema: tuple[tuple[Annotated[int, Ge(0)], Annotated[float, Interval(ge=0, lt=1)]], ...] = (
        *((0, 0.99), (20, 0.995), (40, 0.9975), (50, 0.999)),
    )
    """Decay of the teacher's moving average as pairs of first epoch and decay, the first from epoch 0."""
    ema_warm_up: bool = False
    """Begin with smaller decays, at most (1 + n) / (10 + n) in update n, so that the teacher soon forgets the initial
    weights."""
    epoch_steps: Annotated[int, Ge(1)] = 1000
    """Steps of an epoch in the schedule of the teacher's decay."""
    ramp_up: Annotated[int, Ge(0)] = 0
    """Steps over which the weight of the teacher's predictions grows, as exp(-5 (1 - r)^2), because the first ones of a
    short training are worth little. 0: full weight from the start, as released."""
    confidence: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Probability below which a teacher's prediction is ignored and left out of the masks. None: all count."""
    confidence_by_class: bool = False
    """Lower the confidence of the teacher's predictions for the classes that are rarer in the masks of the previous
    stage than in the labels."""
    mask_tta: MaskTta = "none"
    """Passes of which the masks are the mean: one, as released, with a mirrored one (flip), or both at five sizes
    (multiscale)."""

    def __post_init__(self) -> None:
        if self.first.pool:
            raise ValueError(f"first.pool is 0, because stage 1 has no pool; got {self.first.pool}")
        for name, stage in (("second", self.second), ("third", self.third)):
            if not stage.pool:
                raise ValueError(f"{name}.pool is 1 or more pictures per step, got 0")
        if not self.ema or self.ema[0][0] != 0:
            raise ValueError(f"ema begins with epoch 0, got {self.ema}")
        if self.confidence_by_class and self.confidence is None:
            raise ValueError(
                "confidence_by_class lowers a confidence, got None; set --training.confidence, such as 0.9"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        if self.teacher_weight is None or self.pseudo_weight is None:
            return {}
        return {"consistency_weight": "teacher_weight and pseudo_weight are given; leave one of them out"}

    def stage(self, number: Stage) -> StageConfig:
        """Return the settings of a stage."""
        return {1: self.first, 2: self.second, 3: self.third}[number]

    def loss_weights(self, step: int) -> dict[str, float]:
        """Return the weights of the parts of the loss in a step of stages 2 and 3, counted from 0."""
        half = self.consistency_weight / 2
        grown = math.exp(-5 * (1 - step / self.ramp_up) ** 2) if step < self.ramp_up else 1.0
        teacher = half if self.teacher_weight is None else self.teacher_weight
        pseudo = half if self.pseudo_weight is None else self.pseudo_weight
        return {"supervised": self.supervised_weight, "consistency": teacher * grown, "pseudo": pseudo}

    def uses_masks(self, stage: Stage) -> bool:
        """Return whether a stage learns from the masks of the stage before, with an auxiliary head."""
        return stage > 1 and self.loss_weights(self.ramp_up)["pseudo"] > 0

    def teacher_decay(self, step: int) -> float:
        """Return the teacher's decay in a step, counted from 0."""
        epoch = step // self.epoch_steps
        return max((start, decay) for start, decay in self.ema if start <= epoch)[1]

    def rate_factor(self, step: int, steps: int) -> float:
        """Return what the learning rates are multiplied with in a step, counted from 0."""
        return 1.0 if self.decay == "constant" else float((1 - step / steps) ** 0.9)


@settings
class WeakConfig:
    """Weak augmentation, applied to every picture in training."""

    crop: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] = (321, 321)
    """Height and width of the crop in pixels; smaller pictures get a margin that is ignored."""
    scales: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.5, 1.5)
    """Smallest and largest scale before the crop, drawn in steps of 0.1."""
    mirror: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Probability of mirroring left and right."""

    def __post_init__(self) -> None:
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales is a range above 0, lower end first, got {self.scales}")


@settings
class StrongConfig:
    """Strong augmentation; the defaults are the released ones."""

    operations: Annotated[int, Ge(0)] = 3
    """Operations drawn for each picture, with replacement."""
    probability: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Probability of applying each drawn operation."""
    cutouts: Annotated[int, Ge(0)] = 3
    """Squares cut out of each picture."""
    cutout_size: Annotated[int, Ge(1)] = 32
    """Side of a cutout, in pixels."""
    jitter: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Probability of changing brightness, contrast, saturation and hue at random, as in ST++."""
    grey: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Probability of removing the colours."""
    blur: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Probability of a Gaussian blur with a standard deviation of 0.1 to 2 pixels."""
    mix: Mix = "none"
    """Pixels of another picture of the pool that replace some of the picture: a box (cutmix), or half of the classes
    that the teacher finds in it (classmix)."""
    mix_probability: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Probability of mixing a picture."""
    labelled: bool = False
    """Apply the strong augmentation to the labelled pictures too, but do not mix them."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if self.operations == 0:
            reasons["probability"] = "operations is 0, so none are drawn; give --strong.operations"
        if self.cutouts == 0:
            reasons["cutout_size"] = "cutouts is 0, so none are cut out; give --strong.cutouts"
        if self.mix == "none":
            reasons["mix_probability"] = "mix is none, so nothing is mixed; give --strong.mix"
        return reasons


@settings
class LabelledConfig:
    """Which pictures count as labelled; the ground truth of the others is never read."""

    count: Annotated[int, Ge(1)] | None = None
    """Number of labelled pictures to use, drawn at random. None: all."""
    list_file: str | None = None
    """Text file, local or s3://, that names the labelled pictures, one per line, by image id or the end of a path;
    other words on the line are ignored. None: all pictures that have a mask."""
    seed: int = 0
    """Seed of the draw of labelled pictures."""


@settings
class SemanticStreamConfig:
    """How pictures are read and augmented."""

    weak: WeakConfig = field(default_factory=WeakConfig)
    """Augmentation of every picture."""
    strong: StrongConfig = field(default_factory=StrongConfig)
    """Additional augmentation of the student's view of the pool."""
    shrink: Annotated[int, Ge(1)] = 1
    """Divisor of the sides of all pictures before anything else; 2 gives Cityscapes at half resolution."""
    lanes: Annotated[int, Ge(1)] = 8
    """Largest number of logical lanes, at least as many as workers; a smaller batch has fewer."""
    seed: Annotated[int | None, tyro.conf.arg(name="stream-seed")] = None
    """Seed of the order and the augmentation. None: the job's seed, which is 0 by default."""
    decode_threads: Annotated[int, Ge(1)] | None = None
    """Decoding threads per worker. None: the machine's cores divided by its workers, at most 16."""
    ahead: Annotated[int, Ge(0)] = 4
    """Batches to prepare ahead of the training; 0 prepares each one when it is needed."""
    cache_gb: Annotated[float, Ge(0)] = 2.0
    """Size of the cache of decoded pictures, in gigabytes per worker; that of features is as large."""
    cache_features: Annotated[int, Ge(0)] = 0
    """Epochs of the pool whose views repeat, so that the features of the backbone's frozen stages are computed once and
    kept. 0: every view is new."""

    def __post_init__(self) -> None:
        if self.cache_features and self.strong.mix == "classmix":
            raise ValueError(
                "classmix mixes with the teacher's present predictions, so cache_features cannot keep its features; "
                "use --strong.mix cutmix"
            )
