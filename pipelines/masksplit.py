"""The main job, end to end: photographs in, pseudo-masks, self-supervised training, few-shot evaluation.

    python -m pipelines.masksplit
    python -m pipelines.masksplit --photographs ~/photos --evaluation ~/FSS-1000
    python -m pipelines.masksplit --photographs s3://bucket/photos --output s3://bucket/work --limit 10000
    python -m pipelines.masksplit --preset paper --photographs ~/photos --workers 8

Without arguments, the job paints a sample collection and trains a small model on it in a few minutes. For photographs,
the default settings fit this machine, and those of --preset paper are close to the published ones. All files go into
the output folder. A stopped job resumes when it runs again with the same settings, and a finished job does nothing.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import config_hash
from fss.core.extras import require
from fss.core.hashing import file_hash
from fss.models.config import AUTO
from fss.saliency.config import PRETRAINED
from pipelines.end_to_end.config import HELP, MaskSplitJobConfig, work
from pipelines.end_to_end.presets import PRESETS, default_preset, same_preset
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.labels import Labels
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig, check_workers, with_absolute_paths, with_seed

if TYPE_CHECKING:
    from pipelines.end_to_end.inputs import Input

JOB = "masksplit"


def run(config: MaskSplitJobConfig) -> JobResult:
    """Run all unfinished stages; a finished job does nothing.

    Raises:
        ValueError: inputs, backbone, weights or device are missing, or settings contradict each other.
    """
    from fss.collection import Collection
    from fss.tracking.lineage import log_dataset
    from fss.training.lanes import steps_per_epoch
    from pipelines import pseudomask, train
    from pipelines.end_to_end.estimate import planned_stages
    from pipelines.end_to_end.inputs import evaluation_input, photographs_input
    from pipelines.end_to_end.rounds import run_rounds
    from pipelines.end_to_end.student import train_on_student
    from pipelines.ingest import warn_of_written_files

    config = resolve(config)
    photographs, labelled = photographs_input(config), evaluation_input(config)
    if labelled is not None:
        classes = labelled.evaluation_classes(config.evaluate.classes)
        config = replace(config, evaluate=replace(config.evaluate, classes=classes))
        if labelled.source is None:
            _check_plans(config, labelled)
    _check_truth(config, photographs)
    if photographs.source is None:
        _check_ingested(config, photographs.collection, labelled.collection if labelled else None)
    train_config = config.train_job(photographs.collection)
    identities = [JOB, photographs.identity, labelled and labelled.identity]
    with Job(
        JOB,
        config,
        key=config_hash(identities, work(config)),
        output_dir=storage.absolute_uri(config.output),
        inputs={"photographs": photographs.describe()},
        plan=planned_stages(config, photographs, labelled) if config.dry_run else {},
        contents=_contents(config, photographs, labelled),
        preset=same_preset(config),
        labels=Labels(
            data=Path(config.photographs).name if config.photographs else "sample",
            backbone=config.train.segmenter.backbone,
            learner=config.train.segmenter.learner,
            amount=f"{config.train.optimizer.steps} steps",
        ),
    ) as job:
        if job.done:
            for each in (photographs, labelled):
                if each and each.files and not config.dry_run:
                    warn_of_written_files(each.collection, each.files)
            return job.result
        job.start_ray()
        if config.photographs is not None:
            _print_estimate(config, train_config)
        # Stage 1: photographs (and the labelled pictures) into collections.
        if labelled is not None and labelled.source is not None:
            _ingest(config, labelled, "evaluation pictures", job)
        if photographs.source is not None:
            held_out = () if labelled is None or not config.drop_duplicates else (labelled.collection,)
            drop = {"drop_duplicates": config.drop_duplicates, "distinct_from": held_out}
            _ingest(config, photographs, "photographs", job, **drop)
        if labelled is not None and labelled.source is not None:
            _check_plans(config, labelled)
        # Stage 2: pseudo-masks.
        with job.timed("pseudo-masks"):
            masks = pseudomask.run(config.pseudomask_job(photographs.collection), parent=job.run)
        job.result.notes += [f"pseudo-masks: {note}" for note in masks.notes]
        job.result.counts["accepted pseudo-masks"] = masks.counts["accepted"]
        job.result.outputs |= masks.outputs
        stream = train_config.stream
        steps_per_epoch(masks.counts["accepted"], stream.lane_count, stream.batch_size)  # before the student's training
        if config.saliency_student == "auto":
            train_config = train_on_student(config, train_config, job)
        log_dataset(
            job.run, Collection.open(photographs.collection).mask_set(train_config.mask_set), context="training"
        )
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
        for name, round_training in run_rounds(config, train_config, training, job):
            rounds += 1
            if labelled is not None:
                _evaluate(config, labelled, round_training, job, name)
        if config.rounds:
            job.result.counts["rounds"] = rounds
    return job.result


def resolve(config: MaskSplitJobConfig) -> MaskSplitJobConfig:
    """Resolve the seeds, the device and the student's weights, and check networks, lanes and workers.

    Raises:
        ValueError: the backbone, weights or device are missing, or lanes and workers do not match.
    """
    from fss.models.backbones.factory import check_backbone_name
    from pipelines.end_to_end.student import resolve_student, untrained_prior
    from pipelines.runtime.device import check_precision, resolve_scale
    from pipelines.runtime.validation import check_estimator, check_folder, check_segmenter

    for uri in (config.photographs, config.evaluation):
        if uri is not None:
            check_folder(uri)
    config = resolve_student(replace(config, train=with_absolute_paths(with_seed(config.train, config.seed))))
    training = config.train
    check_workers(training)
    scale = resolve_scale(training.scale, training.optimizer.precision)
    check_precision(config.evaluate.precision, scale.device)
    if config.rounds:
        require("relabel", what="--rounds")
        check_precision(config.relabel.precision or "fp32", scale.device)
    check_backbone_name(config.saliency_training.student.backbone)  # MLflow gets it even if there is no student
    prior = untrained_prior(config)
    image_size = config.evaluate.image_size or training.segmenter.image_size
    sizes = {"evaluate.image-size": image_size, "training-size": training.training_size}
    check_segmenter(training.segmenter, prior, sizes=sizes)
    check_estimator(config.pseudomask.estimator_settings())
    checkpoint_every = min(training.checkpoint_every, training.optimizer.steps)
    training = replace(training, scale=scale, checkpoint_every=checkpoint_every)
    return replace(config, train=training, evaluate=replace(config.evaluate, image_size=image_size))


def _contents(config: MaskSplitJobConfig, photographs: "Input", labelled: "Input | None") -> dict[str, str]:
    """Return the hashes of the files that the job reads and its key names by their paths: collections and networks."""
    segmenter, pseudomask = config.train.segmenter, config.pseudomask
    files: dict[str, Any] = {
        "weights": segmenter.backbone_weights,
        "saliency prior": segmenter.saliency_prior,
        "student": pseudomask.student,
        "vit": pseudomask.vit.weights if pseudomask.estimator == "vit" else None,
    }
    if config.saliency_student == "auto":
        files["student weights"] = config.saliency_training.student.backbone_weights
    hashes = {name: file_hash(file, name) for name, file in files.items() if file not in (None, PRETRAINED, AUTO)}
    inputs = {"photographs": photographs, "evaluation": labelled}
    return hashes | {name: each.contents for name, each in inputs.items() if each and each.contents}


def _check_ingested(config: MaskSplitJobConfig, collection: str, evaluation: str | None) -> None:
    """Refuse settings of the ingest for photographs that are a collection, in which they have no effect."""
    if config.drop_duplicates:
        others = f" --distinct-from {evaluation}" if evaluation else ""
        raise ValueError(
            f"drop_duplicates is for photographs that are ingested, but {collection} is a collection; run "
            f"fss collection duplicates {collection}{others} --drop-duplicates"
        )
    if config.limit is not None:
        raise ValueError(
            f"limit is {config.limit}, which is for photographs that are ingested, but {collection} is a collection, "
            "of which all are used; leave --limit out, or give --photographs their folder"
        )


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


def _check_plans(config: MaskSplitJobConfig, labelled: "Input") -> None:
    """Draw the evaluation's plans, so that too few pictures for the shots are refused before the training."""
    from fss.collection import Collection
    from pipelines.evaluation.plans import make_plans

    evaluate_config = config.evaluate_job(collection=labelled.collection, model="", name="")
    make_plans(evaluate_config, Collection.open(labelled.collection).mask_set(evaluate_config.mask_set))


def _print_estimate(config: MaskSplitJobConfig, train_config: TrainJobConfig) -> None:
    from pipelines.end_to_end.estimate import training_estimate
    from pipelines.end_to_end.student import untrained_prior

    estimate = training_estimate(train_config, untrained_prior(config))
    print(f"[{JOB}] training: {estimate}", file=sys.stderr, flush=True)


def _ingest(config: MaskSplitJobConfig, source: "Input", name: str, job: Job, **settings: Any) -> None:
    from pipelines import ingest

    inputs = {"collection": source.collection, "source": source.source, "limit": source.limit, **settings}
    with job.timed("ingest"):
        ingested = ingest.run(config.ingest_job(**inputs, part_size=config.part_size), parent=job.run)
    job.result.counts |= {f"{name}: {key}": ingested.counts[key] for key in ("usable", "quarantined")}
    job.result.notes += [f"{name}: {note}" for note in ingested.notes]


def _evaluate(config: MaskSplitJobConfig, labelled: "Input", training: JobResult, job: Job, name: str = "") -> None:
    """Evaluate a trained model, and add its metrics, outputs and report to the result, for rounds under their name."""
    from fss.collection import Collection
    from fss.tracking.lineage import log_dataset
    from pipelines import evaluate

    prefix = f"{name}: " if name else ""
    evaluate_config = config.evaluate_job(
        collection=labelled.collection,
        model=training.outputs["model"],
        name=training.inputs["name"],
    )
    with job.timed(f"{prefix}evaluation"):
        evaluated = evaluate.run(evaluate_config, parent=job.run)
    result = job.result
    result.metrics |= {f"{prefix}{metric}": value for metric, value in evaluated.metrics.items()}
    result.outputs |= {f"{prefix}{output}": uri for output, uri in evaluated.outputs.items()}
    result.verdicts |= {name or key: verdict for key, verdict in evaluated.verdicts.items()}
    result.report = "\n".join(text for text in (result.report, name, evaluated.report) if text)
    heading = f"**{name}**" if name else ""
    result.markdown = "\n\n".join(text for text in (result.markdown, heading, evaluated.markdown) if text)
    truth = Collection.open(labelled.collection).mask_set(evaluate_config.mask_set)
    if not name:
        log_dataset(job.run, truth, context="evaluation")
    if not name:
        result.counts["evaluation episodes"] = evaluated.counts["episodes"]
        kept = ("plan", "classes left out")
        result.inputs |= {key: value for key, value in evaluated.inputs.items() if key.endswith(kept)}


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
