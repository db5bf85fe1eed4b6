"""Train a segmenter on a mask set of a collection, in one process on a laptop or many on a cluster.

    python -m pipelines.train --collection my-collection --output runs
    python -m pipelines.train --collection s3://bucket/photos --output s3://bucket/runs --workers 4
    python -m pipelines.train --preset classes --collection fss1000 --output runs --learner hsnet
    python -m pipelines.train --collection photos --mix.collections flowers birds --mix.weights .6 .2 .2 --output runs
    python -m pipelines.train --preset hsnet-pascal --collection voc-trainaug --classes.val-collection voc-val \\
        --classes.fold 0 --masking hybrid --backbone-weights resnet50.pth --output runs

Episodes are split from single pictures (MaskSplit, the default, which needs no labels) or drawn from the classes of a
labelled collection. The presets are general settings for class episodes (classes) and the published settings of each
learner on each benchmark.

The job writes <output>/<name>/model (safetensors and JSON) and summary.json. A stopped training resumes from its last
checkpoint when it runs again with the same settings. A finished training does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import to_dict
from fss.core.flags import check_required
from fss.tracking.run import Run
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.metric_names import logged_metrics
from pipelines.runtime.result import JobResult
from pipelines.training.config import HELP, TrainJobConfig, check_workers, with_absolute_paths, with_seed, work_hash
from pipelines.training.presets import PRESETS

if TYPE_CHECKING:
    from ray.train import Checkpoint, Result, UserCallback

    from pipelines.training.data import TrainingData

JOB = "train"


def run(
    config: TrainJobConfig,
    *,
    parent: Run | None = None,
    mlflow_run: Run | None = None,
    callbacks: Sequence[UserCallback] = (),
) -> JobResult:
    """Train, and publish the selected checkpoint as the model.

    Args:
        config: the settings.
        parent: run of the job that has this training as a stage.
        mlflow_run: an open run to log to, which its owner ends; None: the job opens one.
        callbacks: called with every checkpoint and its metrics.

    Raises:
        ValueError: there is no such collection, mask set, acceptance, backbone, weights file or device, settings
            contradict each other, or a training of this name exists with other settings.
    """
    from pipelines.runtime.checkpoints import network_hashes, publish
    from pipelines.runtime.mlflow_run import log_served_model
    from pipelines.runtime.train_progress import watch
    from pipelines.training.calibration import calibrate
    from pipelines.training.data import TrainingData
    from pipelines.training.worker import MODEL

    config = resolve(config)
    data = TrainingData.open(config)
    hashes, contents = data.hashes() | network_hashes(config.segmenter), data.contents()
    key = work_hash(config, hashes)
    name = config.name or f"{config.segmenter.learner}-{key}"
    config = replace(config, name=name)
    output_dir = storage.join(config.output, name)
    counts = data.counts()  # raises errors of data and settings here and not in every worker
    shares = data.shares()
    left_out = {"classes left out": classes} if (classes := data.left_out()) else {}
    with Job(
        JOB,
        config,
        key=key,
        output_dir=output_dir,
        inputs={"name": name, **hashes, **shares, **left_out},
        plan={"output folder": output_dir, **counts, **shares, **left_out},
        claim_as=f"a training {name!r} in {config.output}",
        contents=contents,
        settings={"log_model": config.log_model},
        remove_too=[storage.join(config.output, "ray", name)],
        parent=parent,
        run=mlflow_run,
        labels=data.labels(),
        tags={f"fss.{name}": value for name, value in hashes.items()},
    ) as job:
        if job.done:
            return job.result
        job.start_ray()
        job.dataset = data.log(job.run, hashes | contents)
        with job.timed("training"), watch(job.run, JOB, total=config.optimizer.steps):
            trained = _fit(config, data, hashes | contents, job.run, callbacks)
        with job.timed("keeping the model"):
            checkpoint, metrics = _select(trained, config)
            job.result.outputs["model"] = publish(checkpoint, MODEL, storage.join(output_dir, MODEL))
            calibrate(job.result.outputs["model"], data, device=config.scale.device)
            job.logged = kept = logged_metrics(metrics, prefix="kept/")
            if not config.log_model:
                job.run.log_metrics(kept)
            else:
                served = log_served_model(job.run, job.result.outputs["model"], metrics=kept, dataset=job.dataset)
                job.result.outputs |= {"served model": served} if served else {}
        job.result.counts = {"steps": config.optimizer.steps, "kept step": int(metrics["step"]), **counts}
        job.result.metrics = {config.score: metrics[config.score]}
    return job.result


def resolve(config: TrainJobConfig) -> TrainJobConfig:
    """Resolve the seeds, the device and the paths of a configuration, and check the network, lanes and workers.

    Raises:
        ValueError: a required setting, the backbone, weights or device are missing, or lanes and workers do not match.
    """
    from pipelines.runtime.device import resolve_scale
    from pipelines.runtime.validation import check_collection, check_segmenter

    check_required(config)
    check_workers(config)
    for uri in (config.collection, *config.mix.collections):
        check_collection(uri)
    config = replace(config, scale=resolve_scale(config.scale, config.optimizer.precision))
    config = with_absolute_paths(with_seed(config, config.seed))
    others = tuple(storage.absolute_uri(uri) for uri in config.mix.collections)
    config = replace(
        config,
        collection=storage.absolute_uri(config.collection),
        mix=replace(config.mix, collections=others),
        output=storage.absolute_uri(config.output),
    )
    check_segmenter(config.segmenter, sizes={"training-size": config.training_size})
    return config


def _fit(
    config: TrainJobConfig,
    data: TrainingData,
    hashes: dict[str, str],
    mlflow_run: Run,
    callbacks: Sequence[UserCallback],
) -> Result:
    from dataclasses import asdict

    import ray

    from pipelines.runtime.ray_train import fit
    from pipelines.training.monitored_worker import monitored_worker

    node = ray.get_runtime_context().get_node_id()
    return fit(
        monitored_worker,
        # The workers get what the driver has read, through the object store.
        {
            "config": to_dict(config),
            "data": [ray.put(data)],
            "hashes": hashes,
            "run": asdict(mlflow_run),
            "driver_node": node,
        },
        name=str(config.name),
        storage_uri=storage.join(config.output, "ray"),
        scale=config.scale,
        score=config.score,
        callbacks=callbacks,
    )


def _select(trained: Result, config: TrainJobConfig) -> tuple[Checkpoint, dict[str, Any]]:
    """Return the checkpoint that becomes the model, and its metrics."""
    checkpoints = trained.best_checkpoints or []
    assert trained.checkpoint is not None and checkpoints, "a finished training has reported at least one checkpoint"
    if config.select == "last":
        return trained.checkpoint, next(metrics for each, metrics in checkpoints if each == trained.checkpoint)
    return max(checkpoints, key=lambda pair: (pair[1][config.score], pair[1]["step"]))


def main() -> None:
    """Run from the command line."""
    cli_main(TrainJobConfig, run, job=JOB, description=str(__doc__), common=HELP, presets=PRESETS)


if __name__ == "__main__":
    main()
