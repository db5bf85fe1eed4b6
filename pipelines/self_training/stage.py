"""One stage of the three-stage framework: a training on Ray Train, then the masks of all pictures, part by part."""

from dataclasses import asdict
from functools import partial
from typing import Any

import ray
from ray.train import Checkpoint, Result

from fss.collection import MaskSet, part_io
from fss.collection.acceptance import read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.core import storage
from fss.core.config import config_hash
from fss.tracking.run import Run
from fss.training.semi_supervised.config import Stage
from pipelines.runtime.checkpoints import publish
from pipelines.runtime.config import PartFailureConfig
from pipelines.runtime.faulty_rows import RowFunction, collection_pictures
from pipelines.runtime.job import Job
from pipelines.runtime.map_parts import PartsResult, on_device, run_parts
from pipelines.runtime.metric_names import logged_metrics
from pipelines.runtime.output_dir import read_record
from pipelines.runtime.ray_train import fit
from pipelines.runtime.result import JobResult
from pipelines.runtime.train_progress import watch
from pipelines.self_training.config import STABLE, STEP, VAL_MIOU, SelfTrainConfig
from pipelines.self_training.data import SelfTrainData
from pipelines.self_training.mask_task import StageMaskTask, model_hash, stage_mask_part, stage_masks
from pipelines.self_training.worker import MODEL, SNAPSHOT, selftrain_worker

JOB = "selftrain"
BEST = "best"
"""Folder of the checkpoint with the best validation; no later stage uses it."""
TRAINED = "trained.json"
"""File with the outputs and metrics of a stage's training, written after its models."""
_TRAINED_KINDS = {"key": str, "outputs": dict, "metrics": dict}
_TRAINED_ADVICE = "Delete it and run the job again, which continues from the last checkpoint of the stage"


def run_stage(data: SelfTrainData, stage: Stage, *, key: str, name: str, output_dir: str, parent: Run) -> JobResult:
    """Train a stage and make its masks; a finished stage does nothing. Ray must be initialized.

    Args:
        data: the data of the job.
        stage: 1, 2 or 3; the masks of the previous stage are complete.
        key: key of the job.
        name: name of the job's training.
        output_dir: folder of the job.
        parent: run of the job.
    """
    title, config, parts = f"stage-{stage}", data.config, data.collection.part_names()
    folder = storage.join(output_dir, title)
    with Job(
        JOB,
        config,
        key=config_hash([key, stage]),
        output_dir=folder,
        inputs={"name": name},
        complete=set(parts) <= data.finished_parts(stage),
        title=title,
        parent=parent,
    ) as job:
        if job.done:
            return job.result
        start = None
        if stage > 1 and config.training.start == "stage-before":
            start = storage.join(output_dir, f"stage-{stage - 1}", MODEL)
        trained = _train(data, stage, job, name, folder, start)
        job.result.outputs, job.result.metrics = trained["outputs"], trained["metrics"]
        with job.timed("masks"):
            masks, made_parts = _make_masks(data, stage, job.key, folder, trained["outputs"]["model"])
        job.result.outputs |= {"mask set": masks.uri}
        job.result.notes += made_parts.notes()
        steps = config.training.stage(stage).steps
        job.result.counts = {"steps": steps, "parts made": made_parts.made, "parts kept": made_parts.skipped}
        if stage == 1 and config.stable_share is not None:
            job.result.counts["stable pictures"] = _accept_stable(masks, parts, config.stable_share)
        job.run.log_metrics(logged_metrics(trained["metrics"], prefix="kept/"))
        job.run.set_tags({"fss.mask_set": masks.config_hash})
    return job.result


def _train(data: SelfTrainData, stage: Stage, job: Job, name: str, folder: str, start: str | None) -> dict[str, Any]:
    """Train the stage and publish its models, or return the outputs and metrics of a finished training.

    ``start`` is the model whose weights the stage starts from; None: those of the backbone.
    """
    file, config = storage.join(folder, TRAINED), data.config
    if part_io.exists(file) and (trained := read_record(file, _TRAINED_KINDS, _TRAINED_ADVICE))["key"] == job.key:
        return trained
    with job.timed("training"), watch(job.run, job.title, total=config.training.stage(stage).steps):
        # The workers get what the driver has read, through the object store.
        shared = [ray.put(data.for_stage(stage))]
        settings = {"data": shared, "run": asdict(job.run), "stage": stage, "output_dir": folder, "start": start}
        result = fit(
            selftrain_worker,
            settings,
            name=f"{name}-{job.title}",
            storage_uri=storage.join(config.output, "ray"),
            scale=config.scale,
            score=config.score,
        )
    with job.timed("keeping the models"):
        best, metrics = _select(result, config)
        assert result.checkpoint is not None, "a finished stage has reported at least one checkpoint"
        outputs = {
            "model": publish(result.checkpoint, MODEL, storage.join(folder, MODEL)),
            "best model": publish(best, MODEL, storage.join(folder, BEST)),
        }
    trained = {"key": job.key, "outputs": outputs, "metrics": metrics}
    part_io.write_json(file, trained)
    return trained


def _select(result: Result, config: SelfTrainConfig) -> tuple[Checkpoint, dict[str, float]]:
    """Return the best checkpoint, and the metrics of the last and of the best."""
    checkpoints = result.best_checkpoints or []
    last = next(metrics for checkpoint, metrics in checkpoints if checkpoint == result.checkpoint)
    checkpoint, best = max(checkpoints, key=lambda pair: (pair[1][config.score], pair[1][STEP]))
    if not config.val_collection:
        return checkpoint, {}
    metrics = {f"last {VAL_MIOU}": last[VAL_MIOU], f"best {VAL_MIOU}": best[VAL_MIOU], "best step": best[STEP]}
    return checkpoint, metrics


def _make_masks(data: SelfTrainData, stage: Stage, key: str, folder: str, model: str) -> tuple[MaskSet, PartsResult]:
    """Make the missing masks of a stage with its last weights."""
    config, weights = data.config, model_hash(model)
    masks = data.collection.create_mask_set(
        config.stage_mask_set(stage),
        config_hash=config_hash([key, weights]),
        provenance={"method": f"three-stage, stage {stage}", "model": model, "weights": weights},
    )
    snapshots = len(config.snapshots()) if stage == 1 else 0
    task = StageMaskTask(
        collection=data.collection.uri,
        mask_set=masks.name,
        identity=masks.config_hash,
        model=model,
        earlier=tuple(storage.join(folder, f"{SNAPSHOT}-{index}") for index in range(snapshots)),
        shrink=config.stream.shrink,
        confidence=config.training.confidence,
        tta=config.training.mask_tta,
        device=config.scale.device,
        precision=config.precision,
    )
    one = partial(stage_mask_part, task=task)
    made_parts = run_parts(
        data.collection.part_names(),
        on_device(one, partial(stage_masks, task=task), device=task.device),
        stage=f"{masks.name} masks",
        finished=masks.finished_parts(),
        workers=config.data_workers,
        failures=PartFailureConfig(max_failed_parts=0.0),  # the next stage trains on all masks
        by_row=RowFunction(
            function=one, pictures=collection_pictures(data.collection), gpus=float(task.device == "cuda")
        ),
    )
    return masks, made_parts


def _accept_stable(masks: MaskSet, parts: list[str], share: float) -> int:
    """Accept the pictures whose masks changed least during stage 1, and return their number."""
    rule = AcceptanceRule(quantile=share, scores=("checkpoint",), gates=())
    return len(write_acceptance(masks, STABLE, read_scores(masks, parts), rule))
