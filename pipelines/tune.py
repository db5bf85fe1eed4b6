"""Search the settings of a training: trials on Ray Tune, judged by held-out pseudo-tasks, never by labels.

    python -m pipelines.tune --preset sample --collection runs/masksplit/photographs --output runs/sweeps --trials 12
    python -m pipelines.tune --collection s3://bucket/photos --output s3://bucket/sweeps --space split augment \\
        --dimensions "training.learning_rate=1e-4..1e-2 log" split.tilt=0.2 --searcher random --trials 64
    python -m pipelines.train --config runs/sweeps/<name>/best.json --collection ... --output runs

All settings of ``pipelines.train`` are settings here too: the search starts from them, and its first trial is that
starting point. A trial is a training; as many run at a time as fit. ASHA stops bad ones early. With
``--gate.evaluation`` a labelled collection judges the best model once, after the search, and a model that passes is
registered under its alias.

Writes <output>/<name>/best.json, trials.json, figures and summary.json. A sweep that was stopped goes on where it was
when it is started again with the same settings. Tune keeps its state as pickles in that folder: never go on with
somebody else's sweep.
"""

import os
from dataclasses import asdict
from typing import Any

import optuna
from ray import tune
from ray.tune import ResultGrid

from fss.collection.part_io import write_json
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.tracking.run import Run
from fss.visualize import png_bytes
from pipelines.runtime.checkpoints import weights_hash
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.output_dir import claim, remove
from pipelines.runtime.ray_internals import FreedRoom
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before
from pipelines.train import absolute
from pipelines.training.config import TrainJobConfig, work_hash
from pipelines.training.data import counts, data_hashes, log_sources
from pipelines.tuning.best import best_settings, best_trial, table
from pipelines.tuning.callbacks import TrialRuns
from pipelines.tuning.config import PRESETS, TuneJobConfig
from pipelines.tuning.importance import importance
from pipelines.tuning.plots import importance_bars, parallel_coordinates
from pipelines.tuning.registration_gate import FIGURE, check_gate, judge, register
from pipelines.tuning.search import DRIVER_CPUS, concurrent_trials, scheduler, searcher, tune_space, worker_threads
from pipelines.tuning.trial import run_trial, trial_config, trials_folder
from pipelines.tuning.trial_runs import TrialRecord, close_leftovers, find_trial, read_trials

JOB = "tune"
_STATE = "tuner"  # folder of Tune's own files below the sweep's
_QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "5", "RAY_AIR_NEW_OUTPUT": "0"}


def run(config: TuneJobConfig) -> JobResult:
    """Search; a sweep that was stopped goes on, and a finished one does nothing.

    Raises:
        ValueError: no such data, or settings or a space that don't fit each other.
        RuntimeError: no trial was trained to the end.
    """
    base = absolute(config.training_config())
    space = config.dimensions_by_name
    data = data_hashes(base) | weights_hash(base.segmenter.backbone_weights)
    key = _key(config, base, data)
    name = config.name or f"{JOB}-{key}"
    home = storage.join(base.output, name)
    scheduler(config)  # refuses what does not fit before anything is written, as does the gate
    check_gate(config.gate)
    if config.dry_run:
        plan = {"name": name, "output": home, "trials": config.trials, "steps": config.training.steps, **counts(base)}
        return dry_run_result(JOB, config, plan | {f"search {each}": str(what) for each, what in space.items()})
    if not config.overwrite and (done := finished_before(home, key)):
        return done
    if config.overwrite:
        remove(home)
    claim(home, key, to_dict(config), what=f"a sweep {name!r} in {base.output}")
    summary = JobResult(job=JOB, inputs={"name": name, "key": key, "objective": config.objective, **data})
    tags = {f"fss.{each}": value for each, value in data.items()}
    with (
        job_run(
            JOB, key=key, tracking=config.tracking, params=to_dict(config), tags=tags, fresh=config.overwrite
        ) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        log_sources(record, base, data)
        with summary.timed("trials"):
            _search(config, base, record, home)
        trials = read_trials(record)
        best = best_trial(trials, config.mode)
        _report(config, base, trials, best, summary, record, home)
        if config.gate.evaluation:
            with summary.timed("gate"):
                _gate(config, best, summary, record, home)
        summary.write(home)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _key(config: TuneJobConfig, base: TrainJobConfig, data: dict[str, str]) -> str:
    how = [config.trials, config.searcher, config.objective, config.search_seed]
    pruning = [config.prune, config.grace, config.reduction]
    space = [[each.name, each.low, each.high, each.log, each.choices] for each in config.dimensions_by_name.values()]
    return config_hash([JOB, work_hash(base, data)], [how, pruning, space], config.gate)


def _search(config: TuneJobConfig, base: TrainJobConfig, record: Run, home: str) -> ResultGrid:
    """Run the trials, or those that a stopped sweep lacks."""
    # MLflow has what Tune would log; a state that is written every few seconds loses little.
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, settings=_settings(config, base, record, home)), {"CPU": DRIVER_CPUS}
    )
    filesystem, path = storage.resolve(home)
    state = f"{path}/{_STATE}"
    if tune.Tuner.can_restore(state, storage_filesystem=filesystem):
        tuner = tune.Tuner.restore(state, trainable, resume_errored=True, storage_filesystem=filesystem)
    else:
        tuner = _tuner(config, trainable, record, filesystem, path)
    found = tuner.fit()
    close_leftovers(record)
    return found


def _tuner(config: TuneJobConfig, trainable: Any, record: Run, filesystem: Any, path: str) -> tune.Tuner:
    steps, concurrent = config.training.steps, _concurrent(config)
    callback = TrialRuns(record, objective=config.objective, mode=config.mode, steps=steps, trials=config.trials)
    return tune.Tuner(
        trainable,
        param_space=tune_space(config.dimensions_by_name),
        tune_config=tune.TuneConfig(
            metric=config.objective,
            mode=config.mode,
            num_samples=config.trials,
            search_alg=searcher(config, concurrent),
            scheduler=scheduler(config),
            max_concurrent_trials=concurrent,
            trial_name_creator=lambda trial: str(trial.trial_id),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=_STATE,
            storage_path=path,
            storage_filesystem=filesystem,
            callbacks=[callback, FreedRoom()],
            verbose=0,
        ),
    )


def _concurrent(config: TuneJobConfig) -> int:
    return config.concurrent or concurrent_trials(config.scale, config.trial_gb)


def _settings(config: TuneJobConfig, base: TrainJobConfig, record: Run, home: str) -> dict[str, Any]:
    """Return what every trial needs to know, as plain values."""
    settings = to_dict(base)
    settings["scale"]["threads"] = worker_threads(config.scale, _concurrent(config))
    return {"config": settings, "output": trials_folder(home), "run": asdict(record)}


def _report(
    config: TuneJobConfig,
    base: TrainJobConfig,
    trials: list[TrialRecord],
    best: TrialRecord,
    summary: JobResult,
    record: Run,
    home: str,
) -> None:
    """Fill the summary, and write settings, table and figures into ``home`` and the run."""
    space = config.dimensions_by_name
    trained = trial_config(base, best.values, name=best.trial_id, output=trials_folder(home))
    settings = best_settings(trained, best.values)
    found = importance(space, trials)
    shown = {"parallel-coordinates": parallel_coordinates(space, trials, objective=config.objective, mode=config.mode)}
    if found is not None:
        shown["importance"] = importance_bars(found, objective=config.objective)
        summary.metrics = {f"importance of {name}": round(share, 3) for name, share in found.shares.items()}
        record.log_metrics({f"importance.{name}": share for name, share in found.shares.items()})
    for name, picture in shown.items():
        storage.write_atomically(*storage.resolve(storage.join(home, f"{name}.png")), png_bytes(picture))
        record.log_image(f"{name}.png", picture)
    write_json(storage.join(home, "best.json"), settings)
    write_json(storage.join(home, "trials.json"), {"trials": [to_dict(trial) for trial in trials]})
    record.log_json("best.json", settings)
    record.log_json("trials.json", [to_dict(trial) for trial in trials])
    record.set_tags({"fss.best_trial": best.trial_id, "fss.best_run": best.run_id})
    summary.report = table(space, trials, objective=config.objective, mode=config.mode)
    summary.metrics = {config.objective: best.objective} | summary.metrics
    states = [trial.state for trial in trials]
    summary.counts = {"trials": len(trials)} | {state: states.count(state) for state in sorted(set(states))}
    summary.inputs |= {"best trial": best.trial_id}
    summary.outputs = {"settings": storage.join(home, "best.json"), "model": _model(home, best)}


def _gate(config: TuneJobConfig, best: TrialRecord, summary: JobResult, record: Run, home: str) -> None:
    output = storage.join(home, "gate")
    model = _model(home, best)
    verdict = judge(model, config.gate, output=output, tracking=config.tracking, record=record)
    summary.metrics |= {"best model: 1-shot mIoU": verdict.metrics[FIGURE], "gate": list(verdict.reasons)}
    summary.inputs |= {"1-shot plan of the gate": verdict.plan}
    record.set_tags({"fss.gate": "passed" if verdict.passed else "failed"})
    record.log_json("gate.json", to_dict(verdict))
    if verdict.passed:
        trial = find_trial(record, best.trial_id)
        assert trial is not None
        tags = {"fss.sweep": record.run_id, f"fss.{config.objective}": f"{best.objective:.4f}"}
        summary.outputs["registered"] = register(trial, model, config.gate, verdict, tags=tags)


def _model(home: str, trial: TrialRecord) -> str:
    return storage.join(trials_folder(home), trial.trial_id, "model")


def main() -> None:
    """Run from the command line."""
    cli_main(TuneJobConfig, run, job=JOB, description=str(__doc__), presets=PRESETS)


if __name__ == "__main__":
    main()
