"""The main job, end to end: photographs in, pseudo-masks, self-supervised training, few-shot evaluation.

    python -m pipelines.masksplit
    python -m pipelines.masksplit --photographs ~/photos --evaluation ~/FSS-1000
    python -m pipelines.masksplit --photographs s3://bucket/photos --output s3://bucket/work --limit 10000
    python -m pipelines.masksplit --preset paper --photographs ~/photos --workers 8

Without arguments it paints a sample collection and trains a small model on it in a few minutes. For photographs the
settings fit this machine; --preset paper takes the published ones. Everything goes into the output folder; a job that
was stopped continues where it was, and a finished one does nothing.
"""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from fss.core import storage
from fss.core.config import config_hash
from pipelines.end_to_end.config import HELP, MaskSplitJobConfig, work
from pipelines.end_to_end.presets import PRESETS, default_preset
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig, with_seed

if TYPE_CHECKING:
    from pipelines.end_to_end.inputs import Input

JOB = "masksplit"


def run(config: MaskSplitJobConfig) -> JobResult:
    """Run all stages; finished stages are kept, and a finished job does nothing.

    Raises:
        ValueError: inputs, backbone, weights, device or settings that are missing or do not fit each other.
    """
    from pipelines import pseudomask, train
    from pipelines.end_to_end.inputs import evaluation_input, photographs_input
    from pipelines.end_to_end.rounds import run_rounds

    config = resolve(config)
    photographs, labelled = photographs_input(config), evaluation_input(config)
    _check_truth(config, photographs)
    train_config = config.train_job(photographs.collection)
    identities = [JOB, photographs.identity, labelled and labelled.identity]
    with Job(
        JOB,
        config,
        key=config_hash(identities, work(config)),
        output_dir=storage.absolute_uri(config.output),
        inputs={"photographs": photographs.describe()},
        plan={"photographs": photographs.describe(), "evaluation": labelled.describe() if labelled else "none"},
    ) as job:
        if job.done:
            return job.result
        job.start_ray()
        if config.photographs is not None:
            _print_estimate(train_config)
        # Stage 1: photographs (and the labelled pictures) into collections.
        for name, source in (("photographs", photographs), ("evaluation pictures", labelled)):
            if source is not None and source.source is not None:
                _ingest(config, source, name, job)
        # Stage 2: pseudo-masks.
        with job.timed("pseudo-masks"):
            masks = pseudomask.run(config.pseudomask_job(photographs.collection), parent=job.run)
        job.result.counts["accepted pseudo-masks"] = masks.counts["accepted"]
        job.result.outputs |= masks.outputs
        # Stage 3: training.
        with job.timed("training"):
            training = train.run(train_config, parent=job.run)
        job.result.counts |= {
            "training steps": training.counts["steps"],
            "kept step": training.counts["kept step"],
        }
        job.result.metrics |= training.metrics
        job.result.outputs |= training.outputs
        # Stage 4: evaluation.
        if labelled is not None:
            _evaluate(config, labelled, training, job)
        # Stage 5: rounds of self-training, each evaluated like the first training.
        rounds = 0
        for name, again in run_rounds(config, train_config, training, job):
            rounds += 1
            if labelled is not None:
                _evaluate(config, labelled, again, job, name)
        if config.rounds:
            job.result.counts["rounds"] = rounds
    return job.result


def resolve(config: MaskSplitJobConfig) -> MaskSplitJobConfig:
    """Return the configuration that the stages use: seeds and device filled in, network and workers checked.

    Raises:
        ValueError: backbone, weights, lanes, workers or device do not fit.
    """
    from fss.training.lanes import check_lanes
    from pipelines.runtime.device import resolve_device
    from pipelines.runtime.validation import check_estimator, check_segmenter

    what = with_seed(config.train, config.seed)
    check_lanes(what.stream.lanes, what.stream.batch_size, what.scale.workers)
    device = resolve_device(what.scale.device, workers=what.scale.workers)
    check_segmenter(what.segmenter)
    check_estimator(config.pseudomask.estimator_settings())
    checkpoint_every = min(what.checkpoint_every, what.optimizer.steps)
    what = replace(what, scale=replace(what.scale, device=device), checkpoint_every=checkpoint_every)
    return replace(config, train=what)


def _check_truth(config: MaskSplitJobConfig, photographs: "Input") -> None:
    from fss.collection import Collection

    name = config.relabel.truth_mask_set
    if name is None:
        return
    names = [] if photographs.source else Collection.open(photographs.collection).mask_set_names()
    if name not in names:
        raise ValueError(
            f"self-training.truth-mask-set is {name!r}, but {photographs.describe()} has no such mask set; give "
            "--photographs a collection that has it, or leave the setting out"
        )


def _print_estimate(train_config: TrainJobConfig) -> None:
    from pipelines.end_to_end.estimate import training_estimate

    print(f"[{JOB}] training: {training_estimate(train_config)}", file=sys.stderr, flush=True)


def _ingest(config: MaskSplitJobConfig, source: "Input", name: str, job: Job) -> None:
    from pipelines import ingest

    where = {"collection": source.collection, "source": source.source, "limit": source.limit}
    with job.timed("ingest"):
        ingested = ingest.run(config.ingest_job(**where, part_size=config.part_size), parent=job.run)
    job.result.counts |= {f"{name}: {key}": ingested.counts[key] for key in ("usable", "quarantined")}


def _evaluate(config: MaskSplitJobConfig, labelled: "Input", training: JobResult, job: Job, name: str = "") -> None:
    """Evaluate a training; results of rounds get the round's name as a prefix."""
    from pipelines import evaluate

    prefix = f"{name}: " if name else ""
    evaluate_config = config.evaluate_job(
        collection=labelled.collection,
        model=training.outputs["model"],
        name=training.inputs["name"],
        classes=labelled.default_split(),
    )
    with job.timed(f"{prefix}evaluation"):
        evaluated = evaluate.run(evaluate_config, parent=job.run)
    result = job.result
    result.metrics |= {f"{prefix}{metric}": value for metric, value in evaluated.metrics.items()}
    result.outputs |= {f"{prefix}{what}": uri for what, uri in evaluated.outputs.items()}
    result.report = "\n".join(text for text in (result.report, name, evaluated.report) if text)
    if not name:
        result.counts["evaluation episodes"] = evaluated.counts["episodes"]
        result.inputs |= {what: value for what, value in evaluated.inputs.items() if what.endswith("plan")}


def main() -> None:
    """Run from the command line."""
    cli_main(
        MaskSplitJobConfig,
        run,
        job=JOB,
        description=str(__doc__),
        common=HELP,
        presets=PRESETS,
        default_preset=default_preset,
    )


if __name__ == "__main__":
    main()
