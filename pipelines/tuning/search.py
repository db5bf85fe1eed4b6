"""Build Tune's part of a sweep: the space, the searcher, the scheduler, and how many trials run at a time."""

from collections.abc import Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_session import available_cores, count_cpus, count_gpus, is_local
from pipelines.tuning.callbacks import STEP
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.space import Dimension, present

DRIVER_CPUS = 0.01
"""A trial's own process only waits for its workers."""


def tune_space(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the space in Tune's words."""
    return {name: _domain(dimension) for name, dimension in space.items()}


def _domain(dimension: Dimension) -> Any:
    if len(dimension.choices) == 1:
        return dimension.choices[0]
    if dimension.choices:
        return tune.choice(list(dimension.choices))
    return (tune.loguniform if dimension.log else tune.uniform)(dimension.low, dimension.high)


def searcher(config: TuneJobConfig, concurrent: int) -> Searcher | SearchAlgorithm:
    """Return what draws the trials; the first is where the search starts, as far as it lies in the space.

    Random draws keep to ``concurrent`` trials at a time themselves, because Tune limits other searchers alone.

    Ray's Optuna (2.60) takes whole points only: there, a start that lies outside in one dimension is left out.
    """
    space = {name: dimension for name, dimension in config.dimensions_by_name.items() if len(dimension.choices) != 1}
    start = present(config, space)
    points = [start] if start else None
    if config.searcher == "random":
        return BasicVariantGenerator(
            points_to_evaluate=points, max_concurrent=concurrent, random_state=config.search_seed
        )
    return OptunaSearch(points_to_evaluate=points if len(start) == len(space) else None, seed=config.search_seed)


def scheduler(config: TuneJobConfig) -> TrialScheduler:
    """Return what stops bad trials early."""
    if not config.prune:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    grace = config.grace or config.checkpoint_every
    if grace >= config.training.steps:
        raise ValueError(
            f"a trial of {config.training.steps} steps cannot be stopped early when its first {grace} are free: lower "
            "the grace or checkpoint_every, or give --no-prune"
        )
    # max_t stops nothing here: a trial that reaches its last step has yet to write its model.
    return ASHAScheduler(
        time_attr=STEP,
        grace_period=grace,
        max_t=config.training.steps,
        reduction_factor=config.reduction,
        stop_last_trials=False,
    )


def concurrent_trials(scale: ScaleConfig, trial_gb: float) -> int:
    """Return how many trials fit at a time: by cores, GPUs and memory. A Ray session must be open."""
    cores = available_cores() if is_local() else count_cpus() / (scale.cpus + DRIVER_CPUS)
    fitting = [int(cores) // scale.workers]
    if scale.gpu or (scale.gpu is None and count_gpus() >= scale.workers):
        fitting.append(count_gpus() // scale.workers)
    memory = ray.cluster_resources().get("memory")  # type: ignore[no-untyped-call]
    if memory:
        fitting.append(int(memory / 1e9 / trial_gb))
    return max(1, min(fitting))


def worker_threads(scale: ScaleConfig, concurrent: int) -> int | None:
    """Return the threads of each training worker, so that the trials on one machine share its cores."""
    if scale.threads is not None or not is_local():
        return scale.threads
    return max(1, available_cores() // (concurrent * scale.workers))
