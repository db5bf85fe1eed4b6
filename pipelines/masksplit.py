"""The main job, end to end: photographs in, pseudo-masks, self-supervised training, few-shot evaluation.

    python -m pipelines.masksplit
    python -m pipelines.masksplit --photographs ~/photos --evaluation ~/FSS-1000 --weights pretrained
    python -m pipelines.masksplit --photographs s3://bucket/photos --workdir s3://bucket/work --limit 10000
    python -m pipelines.masksplit --rounds 2

Without arguments it paints a sample collection and trains a small model on it in a few minutes. Everything goes into
the working directory; a job that was stopped goes on where it was, and a finished one does nothing.
"""

from fss.collection import Collection
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.tracking.run import Run
from pipelines import evaluate, ingest, pseudomask, train
from pipelines.end_to_end.config import MaskSplitJobConfig, train_config, work
from pipelines.end_to_end.inputs import Input, evaluation_input, photographs_input
from pipelines.end_to_end.presets import preset_for
from pipelines.end_to_end.rounds import run_rounds
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before
from pipelines.training.config import TrainJobConfig

__all__ = ["MaskSplitJobConfig", "main", "run", "train_config"]

JOB = "masksplit"


def run(config: MaskSplitJobConfig) -> JobResult:
    """Run all stages; finished stages are kept, and a finished job does nothing.

    Raises:
        ValueError: inputs that are not there or don't fit the settings.
    """
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"limit is 1 or more photographs, got {config.limit}")
    if config.rounds < 0:
        raise ValueError(f"rounds is 0 or more, got {config.rounds}")
    workdir = storage.absolute_uri(config.workdir)
    photographs = photographs_input(config.photographs, workdir, config.limit, config.seed)
    _check_audit(config, photographs)
    labelled = evaluation_input(config.evaluation, config.photographs, workdir, config.seed)
    trained = train_config(config, photographs)
    key = config_hash([JOB, photographs.identity, labelled and labelled.identity], work(config))
    if config.dry_run:
        plan: dict[str, object] = {"photographs": photographs.describe()}
        plan |= {"evaluation": labelled.describe() if labelled else "none"}
        plan |= {"backbone": trained.segmenter.backbone, "image size": trained.segmenter.image_size}
        plan |= {"training steps": trained.training.steps, "episodes per step": trained.stream.batch_size}
        return dry_run_result(JOB, config, plan)
    if not config.overwrite and (done := finished_before(workdir, key)):
        return done
    summary = JobResult(job=JOB, inputs={"photographs": photographs.describe(), "key": key})
    with (
        job_run(JOB, key=key, tracking=config.tracking, params=to_dict(config), fresh=config.overwrite) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        _run_stages(config, photographs, labelled, trained, summary, record)
        numbers = {name: float(value) for name, value in summary.metrics.items()}
        record.log_metrics({name.replace(" ", "_").replace(":", ""): value for name, value in numbers.items()})
        summary.write(workdir)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _check_audit(config: MaskSplitJobConfig, photographs: Input) -> None:
    audit = config.self_training.audit
    if audit is None:
        return
    known = [] if photographs.source else Collection.open(photographs.collection).mask_set_names()
    if audit not in known:
        raise ValueError(
            f"audit names a mask set of the photographs' collection; {photographs.describe()} has no {audit!r}. Give a "
            "collection that has the truth of some of its pictures, or leave the audit out"
        )


def _run_stages(
    config: MaskSplitJobConfig,
    photographs: Input,
    labelled: Input | None,
    trained: TrainJobConfig,
    summary: JobResult,
    record: Run,
) -> None:
    # Stage 1: photographs (and the labelled pictures) into collections.
    for name, source in (("photographs", photographs), ("evaluation pictures", labelled)):
        if source is not None and source.source is not None:
            made = _ingest(config, source, record, summary)
            summary.counts |= {f"{name}: {key}": made.counts[key] for key in ("usable", "quarantined")}
    # Stage 2: pseudo-masks.
    with summary.timed("pseudo-masks"):
        masks = pseudomask.run(_pseudomask_config(config, photographs), parent=record)
    summary.counts |= {"accepted pseudo-masks": masks.counts["accepted"]}
    summary.outputs |= masks.outputs
    # Stage 3: training.
    with summary.timed("training"):
        training = train.run(trained, parent=record)
    summary.counts |= {"training steps": training.counts["steps"], "kept step": training.counts["kept step"]}
    summary.metrics |= training.metrics
    summary.outputs |= training.outputs
    # Stage 4: evaluation.
    if labelled is not None:
        _evaluate(config, labelled, training, trained, summary, record)
    # Stage 5: rounds of self-training, each evaluated like the first training.
    done = 0
    for name, again in run_rounds(
        config.rounds,
        config.self_training,
        trained,
        training,
        workers=config.workers,
        seed=config.seed,
        summary=summary,
        record=record,
    ):
        done += 1
        if labelled is not None:
            _evaluate(config, labelled, again, trained, summary, record, name)
    summary.counts |= {"rounds": done} if config.rounds else {}


def _evaluate(
    config: MaskSplitJobConfig,
    labelled: Input,
    training: JobResult,
    trained: TrainJobConfig,
    summary: JobResult,
    record: Run,
    name: str = "",
) -> None:
    """Evaluate a training; what the rounds find stands under their names."""
    prefix = f"{name}: " if name else ""
    with summary.timed(f"{prefix}evaluation"):
        result = evaluate.run(_evaluate_config(config, labelled, training, trained), parent=record)
    summary.metrics |= {f"{prefix}{figure}": value for figure, value in result.metrics.items()}
    summary.outputs |= {f"{prefix}{what}": uri for what, uri in result.outputs.items()}
    summary.report = "\n".join(
        [*([summary.report] if summary.report else []), *([name] if name else []), result.report]
    )
    if not name:
        summary.counts |= {"evaluation episodes": result.counts["episodes"]}
        summary.inputs |= {what: value for what, value in result.inputs.items() if what.endswith("plan")}


def _ingest(config: MaskSplitJobConfig, source: Input, record: Run, summary: JobResult) -> JobResult:
    assert source.source is not None
    settings = ingest.IngestConfig(
        collection=source.collection,
        source=source.source,
        part_size=source.part_size,
        limit=source.limit,
        workers=config.workers,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )
    with summary.timed("ingest"):
        return ingest.run(settings, parent=record)


def _pseudomask_config(config: MaskSplitJobConfig, photographs: Input) -> pseudomask.PseudomaskConfig:
    return pseudomask.PseudomaskConfig(
        collection=photographs.collection,
        saliency=config.saliency,
        accept_quantile=config.accept_quantile,
        workers=config.workers,
        seed=config.seed,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )


def _evaluate_config(
    config: MaskSplitJobConfig, labelled: Input, training: JobResult, trained: TrainJobConfig
) -> evaluate.EvaluateConfig:
    return evaluate.EvaluateConfig(
        checkpoint=training.outputs["model"],
        collection=labelled.collection,
        output=storage.join(storage.absolute_uri(config.workdir), "results", training.inputs["name"]),
        classes=config.evaluation_classes or labelled.default_split(),
        episodes=config.episodes or preset_for(sample=config.photographs is None).episodes,
        shots=config.shots,
        seed=config.seed,
        saliency=config.saliency,
        workers=config.workers,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )


def main() -> None:
    """Run from the command line."""
    cli_main(MaskSplitJobConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
