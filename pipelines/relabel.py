"""Make new masks of a collection with a trained segmenter, without labels: one round of self-training.

    python -m pipelines.relabel --collection my-collection --model runs/<name>/model
    python -m pipelines.relabel --collection my-collection --model ... --mask-set round-1 --output-mask-set round-2
    python -m pipelines.relabel --collection my-collection --model ... --relabel.supports bank \\
        --bank.collection labelled --bank.classes train

The segmenter predicts every picture several times: mirrored, and with different supports, which are the most similar
other pictures with their current masks. The new mask is the consensus of these predictions, and their agreement is
stored as scores.

The job writes the mask set with features and neighbours, an acceptance (the best masks of every cluster of similar
pictures), a report with contact sheets, a report of the drift from the previous masks, a decision (whether the new set
is worth training on), and summary.json. A stopped job makes the missing parts when it runs again with the same
settings. ``pipelines.accept`` selects other masks later without making them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from fss.core import storage
from fss.core.config import config_hash
from fss.core.flags import check_required
from fss.tracking.run import Run
from pipelines.relabeling.config import HELP, RelabelJobConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job, dry_run
from pipelines.runtime.labels import Labels
from pipelines.runtime.output_dir import hold_mask_set
from pipelines.runtime.result import JobResult

if TYPE_CHECKING:
    from fss.collection import MaskSet
    from pipelines.relabeling.data import RelabelData
    from pipelines.relabeling.task import Outcomes, RelabelTask
    from pipelines.runtime.map_parts import PartsResult

JOB = "relabel"


def run(config: RelabelJobConfig, *, parent: Run | None = None) -> JobResult:
    """Make the missing parts of the mask set, accept masks and assess the round; a finished job does nothing.

    Args:
        config: the settings.
        parent: run of the job that has this relabelling as a stage.

    Raises:
        ValueError: there is no such collection, mask set, acceptance, model or device, settings contradict each
            other, or the mask set exists with other settings.
    """
    from pipelines.relabeling.data import RelabelData

    config = resolve(config)
    data = RelabelData.open(config)
    collection, parts = data.collection, data.parts
    if config.dry_run:
        return dry_run(JOB, config, {"parts": len(parts), "images at most": len(parts) * collection.part_size})
    # Before the MLflow run is opened, because a mask set with other settings is an error.
    with hold_mask_set(collection.uri, config.output_mask_set, overwrite=config.overwrite):
        masks = _create_mask_set(config, data)
        return _run(config, data, masks, parent)


def _run(config: RelabelJobConfig, data: RelabelData, masks: MaskSet, parent: Run | None) -> JobResult:
    """Make the missing parts of the mask set, accept masks and assess the round.

    With ``overwrite``, no other job writes the mask set meanwhile.
    """
    from fss.tracking.lineage import log_dataset
    from pipelines.masks.acceptance_report import accept_and_report
    from pipelines.relabeling.report import assess_round

    collection, parts, rule = data.collection, data.parts, config.rule()
    options = [rule, config.output_acceptance, config.seed, config.round_gate, data.truth and data.truth.config_hash]
    with Job(
        JOB,
        config,
        key=config_hash([JOB, collection.uri, masks.name, parts], data.identity, options),
        output_dir=masks.metadata_uri,
        in_collection=True,
        inputs={"collection": collection.uri, "model": data.identity["model"]},
        complete=set(parts) <= masks.finished_parts() and config.output_acceptance in masks.acceptance_names(),
        labels=Labels(data=collection.name, result=masks.name),
        parent=parent,
    ) as job:
        if job.done:
            return job.result
        log_dataset(job.run, data.masks_before, context="relabelling", details={"acceptance": config.acceptance})
        masks_result = _make_masks(config, data, masks, job)
        parts = [part for part in parts if part not in masks_result.failed]
        with job.timed("acceptance and report"):
            accepted = accept_and_report(
                masks, parts, rule, name=config.output_acceptance, seed=config.seed, run=job.run
            )
        with job.timed("drift and decision"):
            assessment = assess_round(
                (data.masks_before, config.acceptance),
                (masks, config.output_acceptance),
                parts,
                config.round_gate,
                truth=data.truth,
                seed=config.seed,
                mlflow_run=job.run,
            )
        job.result.notes += masks_result.notes()
        job.result.counts |= accepted.counts | {
            "parts made": masks_result.made,
            "parts kept": masks_result.skipped,
        }
        job.result.metrics |= _speed(masks_result) | accepted.metrics | assessment.metrics
        job.result.verdicts = {"masks": asdict(assessment.verdict)}
        job.result.outputs = {
            "mask set": masks.uri,
            **accepted.outputs,
            **assessment.outputs,
            "decision": str(assessment.decision),
        }
        job.run.set_tags({"fss.mask_set": masks.config_hash, "fss.collection": collection.fingerprint()})
    return job.result


def resolve(config: RelabelJobConfig) -> RelabelJobConfig:
    """Resolve the device and the paths of a configuration.

    Raises:
        ValueError: a required setting is missing, or there is no such collection or device.
    """
    from pipelines.runtime.device import resolve_device
    from pipelines.runtime.validation import check_collection

    check_required(config)
    check_collection(config.collection)
    bank = config.bank
    return replace(
        config,
        collection=storage.absolute_uri(config.collection),
        bank=replace(bank, collection=bank.collection and storage.absolute_uri(bank.collection)),
        device=resolve_device(config.device, precision=config.precision or "fp32"),
    )


def _create_mask_set(config: RelabelJobConfig, data: RelabelData) -> MaskSet:
    provenance = {
        "method": JOB,
        "checkpoint": data.models[0].uri,
        "source": data.masks_before.name,
        "config": data.identity,
    }
    return data.collection.create_mask_set(
        config.output_mask_set,
        config_hash=config_hash(data.identity),
        provenance=provenance,
        overwrite=config.overwrite,
    )


def _make_masks(config: RelabelJobConfig, data: RelabelData, masks: MaskSet, job: Job) -> PartsResult:
    """Make the missing parts of the mask set."""
    from fss.relabel import feature_tables
    from pipelines.relabeling.neighbours import find_neighbours
    from pipelines.relabeling.supports import write_supports
    from pipelines.relabeling.task import RelabelTask, make_features, make_masks
    from pipelines.runtime.map_parts import PartsResult

    finished = masks.finished_parts()
    if set(data.parts) <= finished:
        return PartsResult(made=0, totals={}, skipped=len(data.parts), seconds=0.0)
    job.start_ray()
    task = RelabelTask(
        collection=data.collection.uri,
        mask_set=data.masks_before.name,
        acceptance=config.acceptance,
        output_mask_set=masks.name,
        identity=masks.config_hash,
        model=data.models[0],
        image_size=data.image_size,
        earlier=data.models[1:],
        config=config.relabel,
        bank=config.bank,
        device=config.device,
        precision=config.precision or ("bf16" if config.device == "cuda" else "fp32"),
        cache_gb=config.cache_gb,
    )
    # Stage 1: one feature vector per picture.
    with job.timed("features"):
        written = feature_tables.finished(masks, "features")
        features = _map("features", make_features, task, config, data, data.parts, written)
        parts = [part for part in data.parts if part not in features.failed]
    # Stage 2: neighbours and cluster of every picture.
    with job.timed("neighbours"):
        plan, near = find_neighbours(task, parts, workers=config.workers, failures=config.failures, stage=JOB)
        job.result.counts |= plan.counts
        parts = [part for part in parts if part not in near.failed]
    # Stage 3: the bank of supports, which every process of the next stage reads at random.
    with job.timed("supports"):
        write_supports(task, plan, workers=config.workers, failures=config.failures, stage=JOB)
    # Stage 4: one mask per picture.
    with job.timed("masks"):
        made = _map("masks", make_masks, task, config, data, parts, finished)
    failed = features.failed | near.failed | made.failed
    return replace(made, failed=failed, faulty_rows=features.faulty_rows | made.faulty_rows)


def _map(
    stage: str,
    make: Callable[..., Outcomes],
    task: RelabelTask,
    config: RelabelJobConfig,
    data: RelabelData,
    parts: list[str],
    finished: set[str],
) -> PartsResult:
    from functools import partial

    from pipelines.relabeling.task import one_part
    from pipelines.runtime.faulty_rows import RowFunction, collection_pictures
    from pipelines.runtime.map_parts import on_device, run_parts

    one = partial(one_part, make=make, task=task)
    return run_parts(
        parts,
        on_device(one, partial(make, task=task), device=task.device, actors_per_gpu=config.actors_per_gpu),
        stage=f"{JOB} {stage}",
        finished=finished,
        workers=config.workers,
        failures=config.failures,
        by_row=RowFunction(
            function=one, pictures=collection_pictures(data.collection), gpus=float(task.device == "cuda")
        ),
    )


def _speed(masks_result: PartsResult) -> dict[str, float]:
    """Return images per second, and the share of the processes' time outside the network."""
    if not (images := masks_result.total("images")):
        return {}
    seconds, network = (masks_result.totals[name] for name in ("seconds", "network"))
    return {
        "images per second": round(images / masks_result.seconds, 2),
        "share outside the network": round(1 - network / seconds, 3),
    }


def main() -> None:
    """Run from the command line."""
    cli_main(RelabelJobConfig, run, job=JOB, description=str(__doc__), common=HELP, extras=("relabel",))


if __name__ == "__main__":
    main()
