"""Search the settings of a training: trials on Ray Tune, scored by held-out pseudo-tasks, never by labels.

    python -m pipelines.tune --preset sample --collection runs/masksplit/photographs --output runs/sweeps --trials 12
    python -m pipelines.tune --collection s3://bucket/photos --output s3://bucket/sweeps --space split augment \\
        --dimensions "learning-rate=1e-4..1e-2 log" split.tilt=0.2 --searcher random --trials 64
    python -m pipelines.train --config runs/sweeps/<name>/best.json --collection photos --output runs

The job has all settings of the training. The search starts from them, and they are the first trial. A trial is a
training, and as many trials run at a time as fit. ASHA stops bad trials early. With --gate.evaluation, the best model
is evaluated once on a labelled collection after the search, and a model that passes the gate is registered under its
alias.

The job writes <output>/<name>/best.json, trials.json, plots and summary.json. A stopped sweep resumes when it runs
again with the same settings, and a finished one continues with a larger --trials: the search is rebuilt from the
trials in search.json, and no pickle is read.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.core.flags import check_required
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.metric_names import logged_metrics
from pipelines.runtime.result import JobResult, finished_before
from pipelines.training.config import check_workers, with_absolute_paths, with_seed, work_hash
from pipelines.tuning.config import HELP, PRESETS, TuneJobConfig
from pipelines.tuning.space import apply

if TYPE_CHECKING:
    from pipelines.tuning.trial_runs import TrialResult

JOB = "tune"
EARLIER_BEATS = ("all foreground", "untrained prototype")
"""Default of ``gate.beats`` in earlier versions, whose sweeps without a gate keep their key."""


def run(config: TuneJobConfig) -> JobResult:
    """Run the trials, report them, and apply the gate; a finished sweep does nothing.

    Raises:
        ValueError: the collection or mask set is missing, or settings or dimensions contradict each other.
        RuntimeError: no trial reached the last step.
    """
    from pipelines.runtime.checkpoints import network_hashes
    from pipelines.training.data import TrainingData
    from pipelines.tuning.best import best_trial
    from pipelines.tuning.registration_gate import check_gate
    from pipelines.tuning.search import finished_trials, search
    from pipelines.tuning.trial import TRIALS

    config = resolve(config)
    base = config.train_job()
    data = TrainingData.open(base)
    hashes, contents = data.hashes() | network_hashes(base.segmenter), data.contents()
    key = _key(config, hashes)
    name = config.name or f"{JOB}-{key}"
    config = replace(config, name=name)
    output_dir = storage.join(config.output, name)
    check_gate(config.gate, config.train.segmenter)
    finished = None if config.overwrite or config.dry_run else finished_before(output_dir, key)
    extended = False
    if finished is not None and finished.counts["trials"] < config.trials:
        _reopen(finished, config)
        extended = True
    with Job(
        JOB,
        config,
        key=key,
        output_dir=output_dir,
        contents=contents,
        inputs={"name": name, "objective": config.objective, **hashes},
        plan={"output folder": output_dir, "trials": config.trials, "steps": config.train.optimizer.steps}
        | data.counts()
        | {f"search {name}": str(dimension) for name, dimension in config.dimensions_by_name.items()},
        complete=not extended,
        labels=data.labels(amount=f"{config.trials} trials of {config.train.optimizer.steps} steps"),
        claim_as=f"a sweep {name!r} in {config.output}",
        tags={f"fss.{name}": value for name, value in hashes.items()},
    ) as job:
        if job.done:
            return job.result
        job.start_ray()
        data.log(job.run, hashes | contents)
        with job.timed("trials"):
            search(config, job.run, output_dir, retry_failed=not extended)
        trials = finished_trials(config, job.run, output_dir)
        best = best_trial(trials, config.mode)
        model = storage.join(output_dir, TRIALS, best.trial_id, "model")
        job.result.outputs = {"settings": storage.join(output_dir, "best.json"), "model": model}
        _report(config, trials, best, job)
        if config.gate.evaluation:
            with job.timed("gate"):
                _gate(config, best, job, finished)
    return job.result


def resolve(config: TuneJobConfig) -> TuneJobConfig:
    """Resolve the seeds, the device and the paths of a configuration, and check the networks of all dimensions.

    Raises:
        ValueError: a required setting is missing, or a setting or a value of a dimension is invalid.
    """
    from pipelines.runtime.device import resolve_scale
    from pipelines.runtime.validation import check_collection, check_segmenter

    check_required(config)
    check_collection(config.collection)
    train = with_absolute_paths(with_seed(config.train, config.seed))
    check_workers(train)
    train = replace(train, scale=resolve_scale(train.scale, train.optimizer.precision))
    networks = {train.segmenter} | {
        apply(train, {name: value}).segmenter
        for name, dimension in config.dimensions_by_name.items()
        for value in dimension.extremes()
    }
    for network in networks:
        check_segmenter(network, sizes={"training-size": train.training_size})
    return replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        train=train,
    )


def _reopen(finished: JobResult, config: TuneJobConfig) -> None:
    """Mark the MLflow run of a finished sweep as running, so that the job continues it.

    Raises:
        ValueError: the run has been deleted, and with it the results of the finished trials.
    """
    from fss.tracking.run import Run

    if Run.resume(str(finished.run_id), uri=config.tracking.uri) is None:
        raise ValueError(
            f"the sweep {config.name!r} has finished, but MLflow has no run {finished.run_id} with its trials. "
            "Give the --tracking.uri of the sweep to continue it, or --overwrite to start again"
        )


def _key(config: TuneJobConfig, hashes: dict[str, str]) -> str:
    """Return the key of a sweep, without the number of trials: a sweep can be continued with more."""
    options = [config.searcher, config.objective, config.search_seed]
    pruning = [config.prune, config.grace, config.reduction]
    space = [[each.name, each.low, each.high, each.log, each.choices] for each in config.dimensions_by_name.values()]
    gate = config.gate
    if gate.evaluation is None and gate.beats is None:
        gate = replace(gate, beats=EARLIER_BEATS)
    return config_hash([JOB, work_hash(config.train_job(), hashes)], [options, pruning, space], gate)


def _report(config: TuneJobConfig, trials: "list[TrialResult]", best: "TrialResult", job: Job) -> None:
    """Fill in the result, and write the settings, trials and plots into the output folder and the run."""
    from fss.collection.part_io import write_json
    from fss.visualize import png_bytes
    from pipelines.tuning.best import best_settings, table
    from pipelines.tuning.importance import importance
    from pipelines.tuning.plots import history, importance_bars, parallel_coordinates

    space, result, run = config.dimensions_by_name, job.result, job.run
    output_dir = storage.join(config.output, str(config.name))
    shares = importance(space, trials)
    drawn: dict[str, Any] = {"objective": config.objective, "mode": config.mode}
    plots = {
        "history": history(space, trials, **drawn),
        "parallel-coordinates": parallel_coordinates(space, trials, **drawn),
    }
    result.metrics = {config.objective: best.objective}
    if shares is not None:
        plots["importance"] = importance_bars(shares, objective=config.objective)
        result.metrics |= {f"importance of {name}": round(share, 3) for name, share in shares.shares.items()}
        run.log_metrics(logged_metrics(shares.shares, prefix="importance/"))
    for name, picture in plots.items():
        file = storage.join(output_dir, f"{name}.png")
        storage.write_atomically(*storage.resolve(file), png_bytes(picture))
        run.log_image(f"{name}.png", picture)
        job.pictures[name.replace("-", " ")] = f"{name}.png"
    settings = best_settings(apply(config.train, best.values), best.values)
    rows = [to_dict(trial) for trial in trials]
    write_json(result.outputs["settings"], settings)
    write_json(storage.join(output_dir, "trials.json"), {"trials": rows})
    run.log_json("best.json", settings)
    run.log_json("trials.json", rows)
    run.set_tags({"fss.best_trial": best.trial_id, "fss.best_run": best.run_id})
    result.report, result.markdown = table(space, trials, **drawn), table(space, trials, **drawn, markdown=True)
    states = [trial.state for trial in trials]
    result.counts = {"trials": len(trials)} | {state: states.count(state) for state in sorted(set(states))}
    result.inputs |= {"best trial": best.trial_id}


def _gate(config: TuneJobConfig, best: "TrialResult", job: Job, finished: JobResult | None) -> None:
    """Evaluate the best model on labelled pictures, and register it if it passes the gate.

    A sweep that had ``finished`` with the same best trial has registered its model already.
    """
    from pipelines.tuning.registration_gate import METRIC, evaluate_gate, gate_verdict, log_labelled, register
    from pipelines.tuning.trial_runs import find_trial

    model: str = job.result.outputs["model"]
    output_dir = storage.join(config.output, str(config.name), "gate")
    decision = evaluate_gate(model, config.gate, output_dir=output_dir, tracking=config.tracking, mlflow_run=job.run)
    job.result.metrics |= {"best model: 1-shot mIoU": decision.metrics[METRIC], "gate": list(decision.reasons)}
    job.result.inputs |= {"1-shot plan of the gate": decision.plan}
    job.run.set_tags({"fss.gate": "passed" if decision.passed else "failed"})
    job.run.log_json("gate.json", to_dict(decision))
    if finished and finished.inputs["best trial"] == best.trial_id and "registered" in finished.outputs:
        job.result.outputs["registered"] = finished.outputs["registered"]
    elif decision.passed:
        trial = find_trial(job.run, best.trial_id)
        assert trial is not None
        tags: dict[str, Any] = {"fss.sweep": job.run.run_id, f"fss.{config.objective}": f"{best.objective:.4f}"}
        dataset = log_labelled(trial, config.gate)
        uri = register(trial, model, config.gate, decision, tags=tags, dataset=dataset)
        job.result.outputs["registered"] = uri
    if decision.verdict:
        job.result.verdicts = {"best model": gate_verdict(decision, job.result.outputs.get("registered"))}


def main() -> None:
    """Run from the command line."""
    cli_main(TuneJobConfig, run, job=JOB, description=str(__doc__), common=HELP, presets=PRESETS, extras=("tune",))


if __name__ == "__main__":
    main()
