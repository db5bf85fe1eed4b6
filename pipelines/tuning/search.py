"""Run the trials of a sweep on Ray Tune: search space, searcher, scheduler and number of concurrent trials."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from fss.core import storage
from fss.core.config import to_dict
from fss.core.system import available_cores
from fss.tracking.run import Run
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_internals import set_trial_count, tuner_callbacks
from pipelines.runtime.ray_session import count_cpus, count_gpus, is_local
from pipelines.tuning.callbacks import STEP, GrowingConcurrency, ReservationCleaner, TrialRuns
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.space import Dimension, present
from pipelines.tuning.trial import TRIALS, run_trial
from pipelines.tuning.trial_runs import close_leftovers

_STATE = "tuner"  # folder of Tune's state in the folder of the sweep
_QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "5", "RAY_AIR_NEW_OUTPUT": "0"}
DRIVER_CPUS = 0.01
"""CPUs of a trial's own process, which only waits for its training workers."""


def search(config: TuneJobConfig, mlflow_run: Run, output_dir: str, *, retry_failed: bool = True) -> None:
    """Run the trials, or those that a stopped or finished sweep lacks. Ray must be initialized.

    Args:
        config: the resolved settings of the sweep.
        mlflow_run: run of the sweep.
        output_dir: folder of the sweep.
        retry_failed: repeat the failed trials of a stopped sweep, which may have failed because of the stop.
    """
    # MLflow replaces Tune's loggers, and a state that is written every 5 s loses little when the driver is killed.
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    concurrent = config.concurrent or concurrent_trials(config.train.scale, config.trial_gb)
    settings = to_dict(config.train_job())
    settings["scale"]["threads_per_worker"] = worker_threads(config.train.scale, concurrent)
    trial = {"config": settings, "output": storage.join(output_dir, TRIALS), "run": asdict(mlflow_run)}
    trainable = tune.with_resources(tune.with_parameters(run_trial, settings=trial), {"CPU": DRIVER_CPUS})
    filesystem, path = storage.resolve(output_dir)
    state = f"{path}/{_STATE}"
    if tune.Tuner.can_restore(state, storage_filesystem=filesystem):
        set_trial_count(filesystem, state, config.trials)
        tuner = tune.Tuner.restore(state, trainable, resume_errored=retry_failed, storage_filesystem=filesystem)
        for callback in tuner_callbacks(tuner):
            if isinstance(callback, TrialRuns):
                callback.trials = config.trials
    else:
        tuner = _tuner(config, trainable, mlflow_run, concurrent, filesystem, path)
    tuner.fit()
    close_leftovers(mlflow_run)


def _tuner(
    config: TuneJobConfig, trainable: Any, mlflow_run: Run, concurrent: int, filesystem: Any, path: str
) -> tune.Tuner:
    steps = config.train.optimizer.steps
    callback = TrialRuns(mlflow_run, objective=config.objective, mode=config.mode, steps=steps, trials=config.trials)
    search_algorithm = searcher(config, concurrent)
    if isinstance(search_algorithm, Searcher):
        search_algorithm = ConcurrencyLimiter(search_algorithm, max_concurrent=concurrent)
    callbacks: list[tune.Callback] = [callback, ReservationCleaner()]
    if config.concurrent is None and not is_local():
        fitting = partial(concurrent_trials, config.train.scale, config.trial_gb)
        callbacks.append(GrowingConcurrency(search_algorithm, fitting))
    return tune.Tuner(
        trainable,
        param_space=tune_space(config.dimensions_by_name),
        tune_config=tune.TuneConfig(
            metric=config.objective,
            mode=config.mode,
            num_samples=config.trials,
            search_alg=search_algorithm,
            scheduler=scheduler(config),
            trial_name_creator=lambda trial: str(trial.trial_id),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=_STATE,
            storage_path=path,
            storage_filesystem=filesystem,
            callbacks=callbacks,
            verbose=0,
        ),
    )


def tune_space(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the search space as Tune's domains by name."""
    return {name: _domain(dimension) for name, dimension in space.items()}


def _domain(dimension: Dimension) -> Any:
    if len(dimension.choices) == 1:
        return dimension.choices[0]
    if dimension.choices:
        return tune.choice(list(dimension.choices))
    if dimension.whole:
        low, high = int(dimension.low), int(dimension.high) + 1
        return tune.lograndint(low, high) if dimension.log else tune.randint(low, high)
    return (tune.loguniform if dimension.log else tune.uniform)(dimension.low, dimension.high)


def searcher(config: TuneJobConfig, concurrent: int) -> Searcher | SearchAlgorithm:
    """Return the searcher, whose first trial is the initial training, as far as it lies in the search space.

    The random searcher limits itself to ``concurrent`` trials, because Tune does so only for other searchers. Ray's
    Optuna searcher (2.60) needs complete points, so it skips an initial training that is outside in any dimension.
    """
    space = {name: dimension for name, dimension in config.dimensions_by_name.items() if len(dimension.choices) != 1}
    start = present(config.train, space)
    points = [start] if start else None
    if config.searcher == "random":
        return BasicVariantGenerator(
            points_to_evaluate=points, max_concurrent=concurrent, random_state=config.search_seed
        )
    return OptunaSearch(points_to_evaluate=points if len(start) == len(space) else None, seed=config.search_seed)


def scheduler(config: TuneJobConfig) -> TrialScheduler:
    """Return the scheduler, which stops bad trials early."""
    if not config.prune:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    # max_t must not stop a trial (stop_last_trials), because a trial writes its model after its last step.
    return ASHAScheduler(
        time_attr=STEP,
        grace_period=config.grace or config.train.checkpoint_every,
        max_t=config.train.optimizer.steps,
        reduction_factor=config.reduction,
        stop_last_trials=False,
    )


def concurrent_trials(scale: ScaleConfig, trial_gb: float) -> int:
    """Return how many trials fit at a time, by cores, GPUs and memory. Ray must be initialized."""
    cores = available_cores() if is_local() else count_cpus() / (scale.cpus_per_worker + DRIVER_CPUS)
    fitting = [int(cores) // scale.workers]
    if scale.device == "cuda":
        fitting.append(count_gpus() // scale.workers)
    memory = ray.cluster_resources().get("memory")  # type: ignore[no-untyped-call]
    if memory:
        fitting.append(int(memory / 1e9 / trial_gb))
    return max(1, min(fitting))


def worker_threads(scale: ScaleConfig, concurrent: int) -> int | None:
    """Return the threads of each training worker, so that concurrent trials share the cores of one machine."""
    if scale.threads_per_worker is not None or not is_local():
        return scale.threads_per_worker
    return max(1, available_cores() // (concurrent * scale.workers))
