"""Settings of a sweep: the initial training, the search space, and the gate."""

from collections.abc import Callable
from dataclasses import field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

from fss.core.config import settings
from fss.core.privacy import Public
from fss.training.few_shot.config import HELD_OUT_LOSS
from pipelines.end_to_end.presets import photographs, sample
from pipelines.runtime.config import FLAT, RequiredText, Subfolder, TrackingConfig
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job
from pipelines.tuning.space import QUANTILE, Dimension, search_space

Objective = Literal["held_out_iou", "held_out_episode_iou", "held_out_fb_iou", "held_out_loss"]


@settings
class GateConfig:
    """Conditions for the registration of the best model."""

    evaluation: str | None = None
    """Labelled collection to evaluate the best model on, after the search. None: no model is registered."""
    classes: str | None = None
    """Class split to evaluate on. None: all classes."""
    episodes: Annotated[int, Ge(1)] = 300
    """Evaluation episodes."""
    skip_small_classes: bool = False
    """Leave out classes with fewer than two pictures, instead of refusing to evaluate."""
    beats: tuple[str, ...] | None = None
    """Baselines to beat: the 95 % interval of the paired difference in mIoU must be above 0. None: all baselines."""
    model: Annotated[str, Public()] = "fss"
    """Name of the registered model; the version of its alias must not be better on the same episodes."""
    alias: Annotated[str, Public()] = "champion"
    """Alias that moves to the new version."""

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reason = "there are no labelled pictures for the gate; give --gate.evaluation"
        names = ("classes", "episodes", "skip_small_classes", "beats", "model", "alias")
        return {} if self.evaluation is not None else dict.fromkeys(names, reason)


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
    """Folder of all sweeps, reachable from every node; the job writes into the subfolder with its name."""
    name: Subfolder | None = None
    """Name of the sweep; a stopped sweep of the same name resumes. None: a hash of the settings."""
    space: Annotated[tuple[str, ...], Public()] = ("split",)
    """Search spaces by name: split, tasks, collages, augment, masks, network, optimisation. Empty: only the
    dimensions."""
    dimensions: tuple[str, ...] = ()
    """Further dimensions, named like the flags of the training: "split.tilt=0..0.3", "learning-rate=1e-4..1e-2 log",
    "width=32|64"; a single value is fixed."""
    trials: Annotated[int, Ge(1)] = 16
    """Number of trials; the first is the initial training. A larger number continues a finished sweep."""
    searcher: Literal["optuna", "random"] = "optuna"
    """Choice of the next trial: by the results of earlier trials (optuna) or at random (random)."""
    objective: Objective = "held_out_iou"
    """Metric of the held-out pseudo-tasks to optimise, for the selected checkpoint of each trial."""
    prune: bool = True
    """Stop bad trials early (ASHA)."""
    grace: Annotated[int, Ge(1)] | None = None
    """Steps before a trial may be stopped. None: up to its first checkpoint."""
    reduction: Annotated[int, Ge(2)] = 2
    """Reduction factor of ASHA: one in this many trials continues to the next rung, which is this many times longer."""
    concurrent: Annotated[int, Ge(1)] | None = None
    """Concurrent trials. None: as many as fit the machine or the cluster, also on machines that join later."""
    trial_gb: Annotated[float, Gt(0)] = 2.5
    """Gigabytes of memory to reserve for a trial."""
    search_seed: Annotated[int, Interval(ge=0, lt=2**32)] = 0  # the range of NumPy, and so of Optuna
    """Seed of the searcher."""
    gate: GateConfig = field(default_factory=GateConfig)
    """Gate of the registration."""
    train: Annotated[TrainSettings, FLAT] = field(default_factory=TrainSettings)
    """Initial training of the search."""
    seed: int = 0
    """Seed of the trainings."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the runs."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Delete an existing sweep of this name and start again."""

    def __post_init__(self) -> None:
        if self.train.episodes != "split":
            raise ValueError(
                f"episodes is {self.train.episodes!r}, but sweeps optimise held-out pseudo-tasks, never "
                "labels; give --episodes split"
            )
        if QUANTILE in self.dimensions_by_name and not (self.acceptance or self.train.held_out_acceptance):
            raise ValueError(
                f"{QUANTILE} is searched, so all trials need the same held-out pictures; give the acceptance that "
                "selects them (--acceptance or --held-out-acceptance)"
            )
        grace = self.grace or self.train.checkpoint_every
        if self.prune and grace >= self.train.optimizer.steps:
            raise ValueError(
                f"a trial of {self.train.optimizer.steps} steps cannot be stopped early if its first {grace} steps are "
                "exempt; lower --grace or --checkpoint-every, or give --no-prune"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        if self.prune:
            return {}
        return dict.fromkeys(("grace", "reduction"), "prune is off, so no trial is stopped early; give --prune")

    @property
    def dimensions_by_name(self) -> dict[str, Dimension]:
        """Dimensions of the search space by name."""
        return search_space(self.train, self.space, self.dimensions)

    @property
    def mode(self) -> Literal["min", "max"]:
        """Direction of the objective."""
        return "min" if self.objective == HELD_OUT_LOSS else "max"

    def train_job(self) -> TrainJobConfig:
        """Return the initial training job of the search."""
        job: dict[str, Any] = {
            name: getattr(self, name) for name in ("collection", "mask_set", "acceptance", "output", "seed", "tracking")
        }
        return train_job(self.train, **job)


HELP = {
    "data": ("collection", "mask-set", "acceptance", "output", "name"),
    "search": ("space", "dimensions", "trials", "searcher", "objective", "concurrent", "gate.evaluation"),
    "training": ("backbone", "backbone-weights", "image-size", "steps", "batch-size"),
    "machine": ("workers", "device"),
}
"""Flags of the short help."""


def small_sweep() -> TuneJobConfig:
    """Return settings for the painted sample: the small network of masksplit, half its steps, three rungs."""
    train = sample().train
    stream, optimizer = replace(train.stream, held_out=0.25), replace(train.optimizer, steps=180)
    return TuneJobConfig(train=replace(train, stream=stream, optimizer=optimizer, checkpoint_every=45))


def photograph_sweep() -> TuneJobConfig:
    """Return settings for photographs: the network of masksplit on this machine, at most 2,000 steps."""
    train = photographs().train
    optimizer = replace(train.optimizer, steps=min(2000, train.optimizer.steps))
    return TuneJobConfig(train=replace(train, optimizer=optimizer, checkpoint_every=optimizer.steps // 8))


PRESETS: dict[str, Callable[[], Any]] = {"sample": small_sweep, "photographs": photograph_sweep}
"""Presets by name."""
