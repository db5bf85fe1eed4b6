"""The arms of ``bench_three_stage.py``: what each one changes in the settings of a self-training, and their groups."""

import math
from dataclasses import dataclass, field
from typing import Any

from fss.core.config import merged
from fss.training.semi_supervised.config import Stage


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training of the benchmark."""

    name: str
    """Name of the arm."""
    group: str
    """Group that the arm is run with."""
    stage: Stage
    """Stage of the framework whose loop trains; the supervised arms are stage 1."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the benchmark's, nested as in the configuration of a self-training."""
    after: str | None = None
    """Arm whose model starts the training or whose masks it learns from."""
    lengths: float = 1.0
    """Steps, in multiples of the benchmark's."""


def strong(**values: Any) -> dict[str, Any]:
    """Return settings of the strong augmentation."""
    return {"stream": {"strong": values}}


def training(**values: Any) -> dict[str, Any]:
    """Return settings of the optimisation."""
    return {"training": values}


JITTER = strong(operations=0, cutouts=0, jitter=0.8, grey=0.2, blur=0.5)
"""The tones of ST++ in place of the released operations and cutouts."""
RECIPE = merged(
    merged(JITTER, strong(mix="cutmix")),
    training(
        supervised_weight=1.0,
        teacher_weight=1.0,
        pseudo_weight=0.0,
        consistency_on="pool",
        target="confidence",
        ema_warm_up=True,
        ramp_up=0,
    ),
)
"""The recipe that won in trials: confident answers on the pool alone, CutMix, no auxiliary head."""
UNMIXED = merged(merged(RECIPE, strong(mix="none")), training(consistency_on="all"))
"""The recipe without CutMix, where the labelled pictures follow the teacher too."""
WITH_MASKS = merged(UNMIXED, training(pseudo_weight=0.25))
"""The same with the second head, which learns from the masks of the stage before."""
AFTER = merged(RECIPE, training(start="stage-before", learning_rate=1e-3, backbone_learning_rate=3e-4))
"""The recipe from a trained network, with the rates of the end of a training."""
RELEASED_LOSSES = training(supervised_weight=1.0, consistency_weight=0.5)
"""The losses of the released settings for PASCAL VOC."""
RATES = ((1e-3, 2e-4), (3e-3, 1e-3), (1e-2, 3e-3))
"""Learning rates of new layers and of the backbone that are tried on the labels alone."""
BALANCE = 0.5
"""Exponent of the class weights of all arms but those that try another one on the labels alone."""
OTHER_BALANCES = (0.0, 0.25, 0.75, 1.0)
"""The other exponents; 0 weights no class."""


def _rate_arms() -> list[Arm]:
    arms = []
    for new, backbone in RATES:
        rates = training(learning_rate=new, backbone_learning_rate=backbone)
        arms.append(Arm(name=f"rates-{new:g}", group="rates", stage=1, settings=rates))
    for exponent in OTHER_BALANCES:
        balance = training(class_balance=exponent)
        arms.append(Arm(name=f"balance-{exponent:g}-2S", group="rates", stage=1, settings=balance, lengths=2))
    return arms


def _recipe(name: str, *, stage: Stage = 2, after: str | None = None, **changes: Any) -> Arm:
    group = "ingredients" if stage == 2 else f"stage-{stage}"
    return Arm(name=name, group=group, stage=stage, settings=merged(RECIPE, training(**changes)), after=after)


def _augmented(name: str, **changes: Any) -> Arm:
    return Arm(name=name, group="ingredients", stage=2, settings=merged(RECIPE, strong(**changes)))


def equal_compute(labelled: int, pool: int) -> float:
    """Return the lengths of a supervised training that costs as much as stages 1, 2 and 3 of equal steps.

    A picture that learns costs three forward passes, and one of the teacher's a single pass.
    """
    return (3 * labelled + 2 * (3 * (labelled + pool) + pool)) / (3 * labelled)


def all_arms(labelled: int, pool: int) -> list[Arm]:
    """Return all arms in the order of their groups; ``labelled`` and ``pool`` are the pictures in a step of stage 2."""
    supervised_strong = merged(JITTER, strong(labelled=True))
    return [
        *_rate_arms(),
        Arm(name="supervised", group="contenders", stage=1),
        Arm(name="supervised-2S", group="contenders", stage=1, lengths=2),
        Arm(name="recipe", group="contenders", stage=2, settings=RECIPE),
        Arm(name="supervised-4S", group="contenders", stage=1, lengths=4),
        Arm(name="supervised-strong-2S", group="contenders", stage=1, settings=supervised_strong, lengths=2),
        Arm(name="released", group="contenders", stage=2, settings=RELEASED_LOSSES, after="supervised"),
        _augmented("without-cutmix", mix="none"),
        _recipe("hard-target", target="hard"),
        _augmented("released-operations", operations=3, cutouts=3, jitter=0.0, grey=0.0, blur=0.0),
        _recipe("teacher-on-all", consistency_on="all"),
        Arm(name="unmixed-on-all", group="ingredients", stage=2, settings=UNMIXED),
        Arm(name="unmixed-on-all-2S", group="ingredients", stage=2, settings=UNMIXED, lengths=2),
        Arm(name="unmixed-on-all-4S", group="ingredients", stage=2, settings=UNMIXED, lengths=4),
        Arm(name="unmixed-with-masks", group="ingredients", stage=2, settings=WITH_MASKS, after="supervised"),
        Arm(name="unmixed-stage-3", group="stage-3", stage=3, settings=WITH_MASKS, after="unmixed-with-masks"),
        Arm(
            name="unmixed-stage-3-4S",
            group="stage-3",
            stage=3,
            settings=WITH_MASKS,
            after="unmixed-on-all-4S",
            lengths=4,
        ),
        _recipe("with-auxiliary", after="supervised", pseudo_weight=0.25),
        _recipe("from-stage-1", after="supervised", start="stage-before"),
        _recipe("no-warm-up", ema_warm_up=False),
        _recipe("soft-target", target="soft"),
        _recipe("half-weight", teacher_weight=0.5),
        _recipe("confidence-by-class", after="supervised", confidence=0.9, confidence_by_class=True, target="hard"),
        Arm(
            name="classmix",
            group="ingredients",
            stage=2,
            # The mixed pictures depend on the teacher, so their features cannot be kept.
            settings=merged(merged(RECIPE, strong(mix="classmix")), {"stream": {"cache_features": 0}}),
        ),
        Arm(name="recipe-2S", group="ingredients", stage=2, settings=RECIPE, lengths=2),
        Arm(name="recipe-4S", group="ingredients", stage=2, settings=RECIPE, lengths=4),
        Arm(name="recipe-after-4S", group="ingredients", stage=2, settings=AFTER, after="supervised-4S"),
        Arm(name="recipe-4S-after-4S", group="ingredients", stage=2, settings=AFTER, after="supervised-4S", lengths=4),
        _recipe("recipe-stage-3", stage=3, after="recipe", start="stage-before"),
        _recipe("recipe-stage-3-masks", stage=3, after="recipe", pseudo_weight=0.25),
        Arm(name="released-stage-3", group="stage-3", stage=3, settings=RELEASED_LOSSES, after="released"),
        Arm(name="supervised-compute", group="compute", stage=1, lengths=math.ceil(equal_compute(labelled, pool))),
    ]


GROUPS = ("rates", "contenders", "ingredients", "stage-3", "compute")
"""Groups in the order in which they are run."""
