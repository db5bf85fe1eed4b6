"""The settings of a sweep: those of a training, and which of them are searched."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from fss.training.few_shot.config import HELD_OUT_LOSS
from pipelines.end_to_end.config import MaskSplitJobConfig, train_config
from pipelines.end_to_end.inputs import Input
from pipelines.training.config import TrainJobConfig
from pipelines.tuning.space import QUANTILE, Dimension, search_space

Objective = Literal["held_out_iou", "held_out_episode_iou", "held_out_fb_iou", "held_out_loss"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What the best model has to show before it is registered."""

    evaluation: str | None = None
    """Labelled collection to evaluate the best model on, after the search; None: nothing is registered."""
    classes: str | None = None
    """Class split to evaluate on; None: all classes."""
    episodes: int = 300
    """Evaluation episodes."""
    beats: tuple[str, ...] = ("all foreground", "untrained prototype")
    """Baselines that it surely beats: the 95 % interval of the paired difference in mIoU lies above 0."""
    model: str = "fss"
    """Registered model; what its alias names at present must not be better on the same episodes."""
    alias: str = "champion"
    """Alias that moves to the new version."""


@dataclass(frozen=True, kw_only=True)
class TuneJobConfig(TrainJobConfig):
    """Settings of a sweep: every setting of a training, which is where the search starts, and the search."""

    space: tuple[str, ...] = ("split",)
    """Search spaces by name: split, tasks, augment, masks, network, optimisation; none: only ``dimensions``."""
    dimensions: tuple[str, ...] = ()
    """More dimensions, or others in the place of a space's: "split.tilt=0..0.3", "training.learning_rate=1e-4..1e-2
    log", "segmenter.width=32|64"; one value alone is fixed, not searched."""
    trials: int = 16
    """Trainings in all; the first is the starting point, as far as it lies in the space."""
    searcher: Literal["optuna", "random"] = "optuna"
    """How the next trial is chosen: by what the earlier ones found, or at random."""
    objective: Objective = "held_out_iou"
    """Figure of the held-out pseudo-tasks that is optimised, of the checkpoint that each trial keeps."""
    prune: bool = True
    """Stop bad trials early (ASHA)."""
    grace: int | None = None
    """Steps before a trial may be stopped; None: up to its first checkpoint."""
    reduction: int = 2
    """One in so many trials goes on at each rung, and a rung is so many times longer than the one before."""
    concurrent: int | None = None
    """Trials at a time; None: as many as fit the machine or the cluster."""
    trial_gb: float = 2.5
    """Memory that a trial is counted with."""
    search_seed: int = 0
    """Seed of the searcher."""
    gate: GateConfig = field(default_factory=GateConfig)
    """When the best model is registered."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes != "split":
            raise ValueError(
                f"sweeps optimise held-out pseudo-tasks, so episodes is 'split', got {self.episodes!r}; labels of test "
                "classes choose nothing here"
            )
        if min(self.trials, self.reduction - 1, self.grace or 1, self.concurrent or 1) < 1 or self.trial_gb <= 0:
            raise ValueError(
                "trials, grace and concurrent are 1 or more, reduction 2 or more and trial_gb above 0; got "
                f"{self.trials}, {self.grace}, {self.concurrent}, {self.reduction} and {self.trial_gb}"
            )
        if QUANTILE in self.dimensions_by_name and not (self.acceptance or self.held_out_acceptance):
            raise ValueError(
                f"{QUANTILE} is searched, so all trials need the same held-out pictures: name an acceptance to take "
                "them from (--acceptance or --held-out-acceptance)"
            )

    @property
    def dimensions_by_name(self) -> dict[str, Dimension]:
        """The whole search space."""
        return search_space(self.space, self.dimensions)

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the objective is to be small or large."""
        return "min" if self.objective == HELD_OUT_LOSS else "max"

    def training_config(self) -> TrainJobConfig:
        """Return the training that the search starts from."""
        return TrainJobConfig(**{each.name: getattr(self, each.name) for each in fields(TrainJobConfig)})


def small_sweep(*, collection: str, output: str) -> TuneJobConfig:
    """Return settings for the painted sample: the main job's small network, half its steps, three rungs."""
    found = _sweep(MaskSplitJobConfig(photographs=None), collection, output)
    return replace(
        found,
        stream=replace(found.stream, held_out=0.25),
        training=replace(found.training, steps=180),
        checkpoint_every=45,
    )


def photograph_sweep(*, collection: str, output: str) -> TuneJobConfig:
    """Return settings for photographs: the main job's network, a tenth of its steps."""
    found = _sweep(MaskSplitJobConfig(photographs=collection), collection, output)
    return replace(found, training=replace(found.training, steps=2000), checkpoint_every=250)


def _sweep(config: MaskSplitJobConfig, collection: str, output: str) -> TuneJobConfig:
    trained = train_config(config, Input(collection=collection, source=None, identity=""))
    values: dict[str, Any] = {each.name: getattr(trained, each.name) for each in fields(TrainJobConfig)}
    return TuneJobConfig(**values | {"collection": collection, "output": output})


PRESETS: dict[str, Callable[..., Any]] = {"sample": small_sweep, "photographs": photograph_sweep}
"""Where the settings of a sweep start from."""
