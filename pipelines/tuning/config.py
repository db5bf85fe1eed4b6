"""Settings of a sweep: the training that it starts from, and what is searched."""

from collections.abc import Callable
from dataclasses import field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from fss.core.config import settings
from fss.training.few_shot.config import HELD_OUT_LOSS
from pipelines.end_to_end.presets import photographs, sample
from pipelines.runtime.config import FLAT, RequiredText, TrackingConfig
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job
from pipelines.tuning.space import QUANTILE, Dimension, search_space

Objective = Literal["held_out_iou", "held_out_episode_iou", "held_out_fb_iou", "held_out_loss"]


@settings
class GateConfig:
    """What the best model has to show before it is registered."""

    evaluation: str | None = None
    """Labelled collection to evaluate the best model on, after the search. None: nothing is registered."""
    classes: str | None = None
    """Class split to evaluate on. None: all classes."""
    episodes: Annotated[int, Ge(1)] = 300
    """Evaluation episodes."""
    beats: tuple[str, ...] = ("all foreground", "untrained prototype")
    """Baselines to beat: the 95 % interval of the paired difference in mIoU has to lie above 0."""
    model: str = "fss"
    """Registered model; the version that its alias names must not be better on the same episodes."""
    alias: str = "champion"
    """Alias that moves to the new version."""


@settings
class TuneJobConfig:
    """Settings of a sweep."""

    collection: RequiredText = ""
    """Collection to train on: local folder or s3:// URI."""
    mask_set: str = "saliency"
    """Mask set to train on."""
    acceptance: str | None = "default"
    """Acceptance that says which masks are used. None: all masks."""
    output: RequiredText = ""
    """Folder of all sweeps, reached by every node; this sweep goes into a folder of its name in it."""
    name: str | None = None
    """Name of the sweep; the same name continues where it stopped. None: a hash of the settings."""
    space: tuple[str, ...] = ("split",)
    """Search spaces by name: split, tasks, augment, masks, network, optimisation. Empty: only the dimensions."""
    dimensions: tuple[str, ...] = ()
    """Further dimensions, named as the training's flags: "split.tilt=0..0.3", "learning-rate=1e-4..1e-2 log",
    "width=32|64"; a single value is fixed, not searched."""
    trials: Annotated[int, Ge(1)] = 16
    """Trainings in all; the first is the starting point, as far as it lies in the space."""
    searcher: Literal["optuna", "random"] = "optuna"
    """Choice of the next trial: by the results of earlier ones (optuna) or at random."""
    objective: Objective = "held_out_iou"
    """Metric of the held-out pseudo-tasks that is optimised, of the checkpoint that each trial keeps."""
    prune: bool = True
    """Stop bad trials early (ASHA)."""
    grace: Annotated[int, Ge(1)] | None = None
    """Steps before a trial may be stopped. None: up to its first checkpoint."""
    reduction: Annotated[int, Ge(2)] = 2
    """Factor between rungs: one in so many trials continues, and the next rung is so many times longer."""
    concurrent: Annotated[int, Ge(1)] | None = None
    """Trials at a time. None: as many as fit the machine or the cluster."""
    trial_gb: Annotated[float, Gt(0)] = 2.5
    """Gigabytes of memory that a trial is counted with."""
    search_seed: int = 0
    """Seed of the searcher."""
    gate: GateConfig = field(default_factory=GateConfig)
    """When the best model is registered."""
    train: Annotated[TrainSettings, FLAT] = field(default_factory=TrainSettings)
    """The training that the search starts from."""
    seed: int = 0
    """Seed of the trainings."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the runs are recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""
    overwrite: bool = False
    """Start again, also where a sweep of this name exists."""

    def __post_init__(self) -> None:
        if self.train.episodes != "split":
            raise ValueError(
                f"episodes is {self.train.episodes!r}, but sweeps optimise held-out pseudo-tasks and labels choose "
                "nothing; give --episodes split"
            )
        if QUANTILE in self.dimensions_by_name and not (self.acceptance or self.train.held_out_acceptance):
            raise ValueError(
                f"{QUANTILE} is searched, so all trials need the same held-out pictures: name an acceptance to take "
                "them from (--acceptance or --held-out-acceptance)"
            )
        grace = self.grace or self.train.checkpoint_every
        if self.prune and grace >= self.train.optimizer.steps:
            raise ValueError(
                f"a trial of {self.train.optimizer.steps} steps cannot be stopped early when its first {grace} are "
                "free: lower the grace or checkpoint_every, or give --no-prune"
            )

    @property
    def dimensions_by_name(self) -> dict[str, Dimension]:
        """The whole search space."""
        return search_space(self.train, self.space, self.dimensions)

    @property
    def mode(self) -> Literal["min", "max"]:
        """Direction of the objective."""
        return "min" if self.objective == HELD_OUT_LOSS else "max"

    def train_job(self) -> TrainJobConfig:
        """Return the training job that the search starts from."""
        where: dict[str, Any] = {
            name: getattr(self, name) for name in ("collection", "mask_set", "acceptance", "output", "seed", "tracking")
        }
        return train_job(self.train, **where)


HELP = {
    "data": ("collection", "mask-set", "acceptance", "output", "name"),
    "search": ("space", "dimensions", "trials", "searcher", "objective", "concurrent", "gate.evaluation"),
    "training": ("backbone", "backbone-weights", "image-size", "steps", "batch-size"),
    "machine": ("workers", "device"),
}
"""Flags of the short help."""


def small_sweep() -> TuneJobConfig:
    """Return settings for the painted sample: the main job's small network, half its steps, three rungs."""
    train = sample().train
    stream, optimizer = replace(train.stream, held_out=0.25), replace(train.optimizer, steps=180)
    return TuneJobConfig(train=replace(train, stream=stream, optimizer=optimizer, checkpoint_every=45))


def photograph_sweep() -> TuneJobConfig:
    """Return settings for photographs: the main job's network on this machine, 2,000 steps at most."""
    train = photographs().train
    optimizer = replace(train.optimizer, steps=min(2000, train.optimizer.steps))
    return TuneJobConfig(train=replace(train, optimizer=optimizer, checkpoint_every=optimizer.steps // 8))


PRESETS: dict[str, Callable[[], Any]] = {"sample": small_sweep, "photographs": photograph_sweep}
"""Presets by name."""
