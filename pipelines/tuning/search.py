"""Run the trials of a sweep on Ray Tune: search space, searcher, scheduler and number of concurrent trials."""

import os
import tempfile
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter

from fss.core import storage
from fss.core.config import to_dict
from fss.core.system import available_cores
from fss.core.temporary import owned_prefix
from fss.tracking.run import Run
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_session import count_cpus, count_gpus, is_local
from pipelines.tuning.callbacks import GrowingConcurrency, ReservationCleaner, TrialRuns
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.journal import JOURNAL, TRIAL, Journal, TrialRecord, checked
from pipelines.tuning.searcher import JournalASHA, JournalSearch
from pipelines.tuning.trial import TRIALS, run_trial
from pipelines.tuning.trial_runs import TrialResult, close_leftovers, read_trials

_QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
# After Ctrl-C, Tune's own handler would report the trials so far as the result of the sweep.
_INTERRUPTS = {"TUNE_DISABLE_SIGINT_HANDLER": "1"}
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
    for name, value in (_QUIET | _INTERRUPTS).items():  # MLflow replaces Tune's loggers
        os.environ.setdefault(name, value)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    concurrent = config.concurrent or concurrent_trials(config.train.scale, config.trial_gb)
    settings = to_dict(config.train_job())
    settings["scale"]["threads_per_worker"] = worker_threads(config.train.scale, concurrent)
    trial = {"config": settings, "output": storage.join(output_dir, TRIALS), "run": asdict(mlflow_run)}
    trainable = tune.with_resources(tune.with_parameters(run_trial, settings=trial), {"CPU": DRIVER_CPUS})
    journal = open_journal(config, mlflow_run, output_dir)
    again = ("running", "failed") if retry_failed else ("running",)
    unfinished = [each.trial_id for each in journal.trials if each.state in again]
    for trial_id in unfinished:
        journal.restart(trial_id)
    missing = len(unfinished) + max(0, config.trials - len(journal.trials))
    try:
        if missing:
            # Tune's state is pickled, so it is in a folder of this job alone, and the next job never reads it.
            with tempfile.TemporaryDirectory(prefix=owned_prefix("tune")) as folder:
                _tuner(config, trainable, mlflow_run, journal, unfinished, concurrent, missing, folder).fit()
    finally:
        close_leftovers(mlflow_run)


def open_journal(config: TuneJobConfig, mlflow_run: Run, output_dir: str) -> Journal:
    """Return the trials of a sweep so far; those of a sweep of version 0.2, which has no journal, are read from MLflow.

    Raises:
        ValueError: the trials are not in the search space.
    """
    file, space = storage.join(output_dir, JOURNAL), config.dimensions_by_name
    journal = Journal.read(file, space)
    if journal is not None:
        return journal
    return Journal(
        file,
        [
            checked(
                TrialRecord(
                    trial_id=trial.trial_id,
                    values=trial.values,
                    state="running" if trial.state == "stopped" else trial.state,  # type: ignore[arg-type]
                    curve=tuple(sorted(trial.curve.items())),
                ),
                space,
                f"the MLflow run {mlflow_run.run_id}",
            )
            for trial in read_trials(mlflow_run)
        ],
    )


def finished_trials(config: TuneJobConfig, mlflow_run: Run, output_dir: str) -> list[TrialResult]:
    """Return the results of all trials, with the values and states of the journal.

    A private run hides some values, and the store may get the last entries of a process after the trial has ended.
    """
    journal = Journal.read(storage.join(output_dir, JOURNAL), config.dimensions_by_name)
    records = {} if journal is None else {record.trial_id: record for record in journal.trials}
    return [_as_written_down(each, records.get(each.trial_id)) for each in read_trials(mlflow_run)]


def _as_written_down(trial: TrialResult, record: TrialRecord | None) -> TrialResult:
    if record is None:
        return trial
    state = trial.state if record.state == "running" else record.state
    return replace(trial, values=record.values, state=state)


def _tuner(
    config: TuneJobConfig,
    trainable: Any,
    mlflow_run: Run,
    journal: Journal,
    unfinished: list[str],
    concurrent: int,
    trials: int,
    folder: str,
) -> tune.Tuner:
    limiter = ConcurrencyLimiter(JournalSearch(config, journal, unfinished), max_concurrent=concurrent)
    steps = config.train.optimizer.steps
    runs = TrialRuns(
        mlflow_run, journal, objective=config.objective, mode=config.mode, steps=steps, trials=config.trials
    )
    callbacks: list[tune.Callback] = [runs, ReservationCleaner()]
    if config.concurrent is None and not is_local():
        callbacks.append(GrowingConcurrency(limiter, partial(concurrent_trials, config.train.scale, config.trial_gb)))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=config.objective,
            mode=config.mode,
            num_samples=trials,
            search_alg=limiter,
            scheduler=scheduler(config, journal),
            trial_name_creator=lambda trial: str(trial.config[TRIAL]),
            trial_dirname_creator=lambda trial: str(trial.config[TRIAL]),
        ),
        run_config=tune.RunConfig(name="tuner", storage_path=folder, callbacks=callbacks, verbose=0),
    )


def scheduler(config: TuneJobConfig, journal: Journal) -> TrialScheduler:
    """Return the scheduler, which stops bad trials early."""
    return JournalASHA(config, journal) if config.prune else FIFOScheduler()  # type: ignore[no-untyped-call]


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
