"""Train a segmenter on a mask set of a collection: one process on a laptop or many on a cluster.

    python -m pipelines.train --collection my-collection --output runs
    python -m pipelines.train --collection s3://bucket/photos --output s3://bucket/runs --scale.workers 4
    python -m pipelines.train --preset classes --collection fss --output runs --segmenter.learner hsnet
    python -m pipelines.train --preset hsnet-pascal --collection voc-trainaug --classes.val-collection voc-val \\
        --classes.fold 0 --segmenter.masking hybrid --segmenter.backbone-weights resnet50.pth --output runs

Episodes are cut from single pictures (MaskSplit, the default: no labels needed), or drawn from the classes of a
labelled collection. A preset is where all other settings start from, and ``--help`` after it shows them: classes, or
the published settings of a learner on a benchmark.

Writes <output>/<name>/model (safetensors and JSON) and summary.json. A training that was stopped goes on from its last
checkpoint when it is started again with the same settings; one that is finished does nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ray
from ray.train import Checkpoint, Result, UserCallback

from fss.core import storage
from fss.core.config import to_dict
from fss.inference.mlflow_model import log_model
from fss.tracking.run import Run
from fss.training.lanes import check_lanes
from pipelines.runtime.checkpoints import absolute_weights, local_copy, publish, weights_hash
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.output_dir import claim, remove
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.ray_train import fit
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before
from pipelines.runtime.train_progress import watch
from pipelines.training.config import TrainJobConfig, work_hash
from pipelines.training.data import counts, data_hashes, log_sources
from pipelines.training.monitored_worker import monitored_worker
from pipelines.training.presets import PRESETS
from pipelines.training.worker import MODEL

JOB = "train"


def run(
    config: TrainJobConfig,
    *,
    parent: Run | None = None,
    record: Run | None = None,
    callbacks: Sequence[UserCallback] = (),
) -> JobResult:
    """Train, and keep the selected checkpoint as the model.

    Args:
        config: the settings.
        parent: run of the job that this training is a stage of.
        record: run to record in, which its owner ends; None: one of the training's own.
        callbacks: told of every checkpoint and its metrics.

    Raises:
        ValueError: no such collection, mask set, acceptance or weights file, settings that don't fit each other, or a
            training of this name with other settings.
    """
    check_lanes(config.stream.lanes, config.stream.batch_size, config.scale.workers)
    config = absolute(config)
    data = data_hashes(config) | weights_hash(config.segmenter.backbone_weights)
    key = work_hash(config, data)
    name = config.name or f"{config.segmenter.learner}-{key}"
    home = storage.join(config.output, name)
    if config.dry_run:
        return dry_run_result(JOB, config, {"name": name, "output": home, **counts(config)})
    if not config.overwrite and (done := finished_before(home, key)):
        return done
    found = counts(config)  # refuses what does not fit here, not in every worker
    if config.overwrite:
        remove(home, storage.join(config.output, "ray", name))
    claim(home, key, to_dict(config), what=f"a training {name!r} in {config.output}")
    summary = JobResult(job=JOB, inputs={"name": name, "key": key, **data})
    with (
        job_run(
            JOB,
            key=key,
            tracking=config.tracking,
            parent=parent,
            record=record,
            params=to_dict(config),
            tags=_tags(data),
        ) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        log_sources(record, config, data)
        with summary.timed("training"), watch(record, JOB, total=config.training.steps):
            result = _fit(config, record, name, callbacks)
        with summary.timed("keeping the model"):
            chosen, metrics = _select(result, config)
            model = publish(chosen, MODEL, storage.join(home, MODEL))
            summary.outputs = {"model": model}
            if config.log_model:
                with local_copy(model) as folder:
                    summary.outputs["served model"] = log_model(record, folder)
        summary.counts = {"steps": config.training.steps, "kept step": int(metrics["step"])}
        summary.counts |= found
        summary.metrics = {config.score: metrics[config.score]}
        record.log_metrics({f"kept.{figure}": value for figure, value in metrics.items()})
        summary.write(home)
        record.log_json("summary.json", to_dict(summary))
    return summary


def absolute(config: TrainJobConfig) -> TrainJobConfig:
    """Return the settings with absolute places: workers run in other directories."""
    cache, classes = config.stream.cache_folder, config.classes
    places = {"val_collection": classes.val_collection, "split_folder": classes.split_folder}
    return dataclasses.replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        segmenter=dataclasses.replace(
            config.segmenter, backbone_weights=absolute_weights(config.segmenter.backbone_weights)
        ),
        stream=dataclasses.replace(config.stream, cache_folder=cache and cache.absolute()),
        classes=dataclasses.replace(
            classes, **{name: uri and storage.absolute_uri(uri) for name, uri in places.items()}
        ),
    )


def _fit(config: TrainJobConfig, record: Run, name: str, callbacks: Sequence[UserCallback]) -> Result:
    node = ray.get_runtime_context().get_node_id()
    settings = {"config": to_dict(config), "run": dataclasses.asdict(record), "driver_node": node}
    return fit(
        monitored_worker,
        settings,
        name=name,
        storage_uri=storage.join(config.output, "ray"),
        scale=config.scale,
        score=config.score,
        callbacks=callbacks,
    )


def _select(result: Result, config: TrainJobConfig) -> tuple[Checkpoint, dict[str, Any]]:
    kept = result.best_checkpoints or []
    assert result.checkpoint is not None and kept, "a finished training has reported at least one checkpoint"
    if config.select == "last":
        return result.checkpoint, next(metrics for checkpoint, metrics in kept if checkpoint == result.checkpoint)
    return max(kept, key=lambda pair: (pair[1][config.score], pair[1]["step"]))


def _tags(data: dict[str, str]) -> dict[str, str]:
    return {f"fss.{name}": value for name, value in data.items()}


def main() -> None:
    """Run from the command line."""
    cli_main(TrainJobConfig, run, job=JOB, description=str(__doc__), presets=PRESETS)


if __name__ == "__main__":
    main()
