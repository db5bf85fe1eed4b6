"""One stage of the three-stage framework: its training on Ray Train, then the masks of all pictures by parts."""

import dataclasses
from functools import partial
from typing import Any

from ray.train import Checkpoint, Result

from fss.collection import MaskSet, part_io
from fss.collection.acceptance import read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.tracking.run import Run
from fss.training.semi_supervised.config import Stage
from pipelines.runtime.checkpoints import publish
from pipelines.runtime.map_parts import OnActors, PartsResult, run_parts
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.ray_session import count_gpus
from pipelines.runtime.ray_train import fit
from pipelines.runtime.result import JobResult, finished_before
from pipelines.runtime.train_progress import watch
from pipelines.self_training.config import STABLE, STEP, VAL_MIOU, SelfTrainConfig
from pipelines.self_training.data import SelfTrainData
from pipelines.self_training.mask_task import StageMaskTask, stage_mask_part, stage_masks, weights_hash
from pipelines.self_training.worker import MODEL, SNAPSHOT, selftrain_worker

BEST = "best"
"""Folder of the checkpoint that the validation pictures like best; nothing is made with it."""
TRAINED = "trained.json"
"""What a stage's training came to; written once its models are kept."""


def run_stage(
    config: SelfTrainConfig, data: SelfTrainData, stage: Stage, *, key: str, name: str, home: str, parent: Run
) -> JobResult:
    """Train a stage and make its masks; a stage that is finished does nothing.

    Args:
        config: settings of the job.
        data: its collection.
        stage: 1, 2 or 3; the masks of the stage before are complete.
        key: of the job.
        name: of the job.
        home: folder of the job.
        parent: run of the job.
    """
    title, folder = f"stage-{stage}", storage.join(home, f"stage-{stage}")
    key = config_hash([key, stage])
    names = data.collection.part_names()
    if (done := finished_before(folder, key)) and set(names) <= _finished(config, data, stage):
        return done
    summary = JobResult(job=title, inputs={"name": name, "key": key})
    with job_run(
        title, key=key, tracking=config.tracking, parent=parent, params=to_dict(config.training.stage(stage))
    ) as record:
        summary.run_id = record.run_id
        trained = _trained(config, record, stage, key, name, folder, summary)
        summary.outputs, summary.metrics = trained["outputs"], trained["metrics"]
        with summary.timed("masks"):
            masks, made = _masks(config, data, stage, key, folder, summary.outputs["model"])
        summary.outputs |= {"mask set": masks.uri}
        steps = config.training.stage(stage).steps
        summary.counts = {"steps": steps, "parts made": len(made.statistics), "parts kept": made.skipped}
        if stage == 1 and config.stable_share is not None:
            summary.counts["stable pictures"] = _accept_stable(masks, names, config.stable_share)
        record.log_metrics({f"kept.{figure}": value for figure, value in summary.metrics.items()})
        record.set_tags({"fss.mask_set": masks.config_hash})
        summary.write(folder)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _trained(
    config: SelfTrainConfig, record: Run, stage: Stage, key: str, name: str, folder: str, summary: JobResult
) -> dict[str, Any]:
    """Train the stage and keep its models, or return what is written down of a training that came so far before."""
    note = storage.join(folder, TRAINED)
    if part_io.exists(note) and (trained := part_io.read_json(note))["key"] == key:
        return trained
    title = f"stage-{stage}"
    with summary.timed("training"), watch(record, title, total=config.training.stage(stage).steps):
        result = _fit(config, record, stage, name, folder)
    with summary.timed("keeping the models"):
        best, metrics = _best(result, config)
        assert result.checkpoint is not None
        outputs = {"model": publish(result.checkpoint, MODEL, storage.join(folder, MODEL))}
        outputs |= {"best model": publish(best, MODEL, storage.join(folder, BEST))}
    trained = {"key": key, "outputs": outputs, "metrics": metrics}
    part_io.write_json(note, trained)
    return trained


def _finished(config: SelfTrainConfig, data: SelfTrainData, stage: Stage) -> set[str]:
    name = config.mask_set(stage)
    return data.collection.mask_set(name).finished_parts() if name in data.collection.mask_set_names() else set()


def _fit(config: SelfTrainConfig, record: Run, stage: Stage, name: str, folder: str) -> Result:
    settings = {"config": to_dict(config), "run": dataclasses.asdict(record), "stage": stage, "home": folder}
    return fit(
        selftrain_worker,
        settings,
        name=f"{name}-stage-{stage}",
        storage_uri=storage.join(config.output, "ray"),
        scale=config.scale,
        score=config.score,
    )


def _best(result: Result, config: SelfTrainConfig) -> tuple[Checkpoint, dict[str, float]]:
    """Return the best checkpoint, and the figures of the last and of the best."""
    kept = result.best_checkpoints or []
    assert kept and result.checkpoint is not None, "a finished stage has reported at least one checkpoint"
    last = next(metrics for checkpoint, metrics in kept if checkpoint == result.checkpoint)
    checkpoint, best = max(kept, key=lambda pair: (pair[1][config.score], pair[1][STEP]))
    if not config.val_collection:
        return checkpoint, {}
    metrics = {f"last {VAL_MIOU}": last[VAL_MIOU], f"best {VAL_MIOU}": best[VAL_MIOU], "best step": best[STEP]}
    return checkpoint, metrics


def _masks(
    config: SelfTrainConfig, data: SelfTrainData, stage: Stage, key: str, folder: str, model: str
) -> tuple[MaskSet, PartsResult]:
    """Make the stage's masks of all pictures with its last weights; finished parts are kept."""
    weights = weights_hash(model)
    identity = config_hash([key, weights])
    masks = data.collection.create_mask_set(
        config.mask_set(stage),
        config_hash=identity,
        provenance={"method": f"three-stage, stage {stage}", "model": model, "weights": weights},
    )
    task = StageMaskTask(
        collection=data.collection.uri,
        name=masks.name,
        identity=identity,
        model=model,
        earlier=tuple(storage.join(folder, f"{SNAPSHOT}-{n}") for n in range(len(config.snapshots()))) * (stage == 1),
        shrink=config.stream.shrink,
        confidence=config.training.confidence,
        device=config.device,
    )
    names, title = data.collection.part_names(), f"{masks.name} masks"
    if config.device == "cpu":
        work = partial(stage_mask_part, task=task)
        return masks, run_parts(names, work, stage=title, finished=masks.finished_parts(), workers=config.mask_workers)
    if not (gpus := count_gpus()):
        raise ValueError("device is cuda but Ray sees no GPU; start it where there is one, or leave the device out")
    actors = OnActors(function=partial(stage_masks, task=task), actors=gpus, gpus=1)
    return masks, run_parts(names, actors, stage=title, finished=masks.finished_parts())


def _accept_stable(masks: MaskSet, names: list[str], share: float) -> int:
    """Write which pictures' masks changed least while stage 1 learned, and return how many they are."""
    rule = AcceptanceRule(quantile=share, scores=("checkpoint",), gates=())
    return len(write_acceptance(masks, STABLE, read_scores(masks, names), rule))
