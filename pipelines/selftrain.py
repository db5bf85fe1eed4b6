"""Semi-supervised semantic segmentation from few labels: the three-stage self-training of Ke et al. (IEEE TIP 2022).

    python -m pipelines.selftrain --preset folder --collection roads --output runs
    python -m pipelines.selftrain --preset folder --collection s3://bucket/roads --output s3://bucket/runs --workers 4
    python -m pipelines.selftrain --preset cityscapes --collection cityscapes-train --val-collection cityscapes-val ...
    python -m pipelines.selftrain --preset pascal --collection voc --backbone-weights deeplab-coco.pth ...

Stage 1 learns from the labelled pictures. Stages 2 and 3 start from fresh weights. They learn from the labels, from a
teacher (the moving average of their own weights) and, with a second head, from the masks of the previous stage. Every
stage ends with masks of all pictures, trains on Ray Train, and is a child run. Pictures without labels need no mask
file:

    python -m pipelines.ingest --collection roads --source.path ~/roads --source.masks index

The job writes the mask sets stage-1, stage-2 and stage-3 into the collection. It writes summary.json and two models
into <output>/<name>/stage-<n>: model (the last weights, of the teacher if there is one) and best (the checkpoint with
the best validation, which no later stage uses). The result is stage-3/model, or the best stage's model if stage 3 ends
below stage 1 on the validation pictures; the last line of the job says which. When a stopped job runs again with the
same settings, the current stage resumes from its last checkpoint, or makes the missing parts of its masks.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from fss.collection.mask_set_files import metadata_uri, parts_uri
from fss.core import storage
from fss.core.flags import check_required
from fss.tracking.run import Run
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.labels import Labels
from pipelines.runtime.result import JobResult
from pipelines.self_training.config import (
    HELP,
    PRESETS,
    STAGES,
    VAL_MIOU,
    SelfTrainConfig,
    with_absolute_paths,
    with_seed,
    work_hash,
)

JOB = "selftrain"


def run(config: SelfTrainConfig, *, parent: Run | None = None) -> JobResult:
    """Run all unfinished stages; a finished job does nothing.

    Args:
        config: the settings.
        parent: run of the job that has this training as a stage.

    Raises:
        ValueError: there is no such collection, mask set, list, weights file or device, settings contradict each
            other, or a training or mask set of this name exists with other settings.
    """
    from pipelines.runtime.checkpoints import weights_hash
    from pipelines.runtime.validation import check_semantic
    from pipelines.self_training.data import SelfTrainData
    from pipelines.self_training.stage import run_stage
    from pipelines.self_training.verdict import judge_stages

    config = resolve(config)
    data = SelfTrainData.open(config)
    counts = data.counts()  # raises errors in seconds that would otherwise stop a stage after hours
    check_semantic(config.network, classes=counts["classes"])
    hashes = data.hashes() | weights_hash(config.network.backbone_weights)
    key = work_hash(config, hashes)
    name = config.name or f"{config.network.network}-{key}"
    config = replace(config, name=name)
    output_dir = storage.join(config.output, name)
    with Job(
        JOB,
        config,
        key=key,
        output_dir=output_dir,
        inputs={"name": name, **hashes},
        plan={
            "output folder": output_dir,
            "steps of all stages": sum(config.training.stage(stage).steps for stage in STAGES),
            **counts,
            **config.remarks(),
        },
        claim_as=f"a self-training {name!r} in {config.output}",
        contents=data.contents(),
        remove_too=[
            *(storage.join(config.output, "ray", f"{name}-stage-{stage}") for stage in STAGES),
            *(parts_uri(config.collection, config.stage_mask_set(stage)) for stage in STAGES),
            *(metadata_uri(config.collection, config.stage_mask_set(stage)) for stage in STAGES),
        ],
        labels=Labels(
            data=data.collection.name,
            result=config.network.network,
            backbone=config.network.backbone,
            amount=f"{sum(config.training.stage(stage).steps for stage in STAGES)} steps",
        ),
        parent=parent,
        tags={"fss.collection": hashes["collection"]},
    ) as job:
        if job.done:
            return job.result
        job.start_ray()
        job.result.counts = counts
        for stage in STAGES:
            with job.timed(f"stage {stage}"):
                stage_result = run_stage(data, stage, key=key, name=name, output_dir=output_dir, parent=job.run)
            job.result.metrics |= {f"stage {stage}: {metric}": value for metric, value in stage_result.metrics.items()}
            job.result.outputs |= {f"stage {stage}: {output}": uri for output, uri in stage_result.outputs.items()}
        last, metrics = f"last {VAL_MIOU}", job.result.metrics
        verdict = judge_stages({stage: metrics[f"stage {stage}: {last}"] for stage in STAGES if config.val_collection})
        job.result.verdicts = {"stages": asdict(verdict)}
        kept = f"stage {verdict.stage}"
        job.result.outputs |= {output: job.result.outputs[f"{kept}: {output}"] for output in ("model", "mask set")}
    return job.result


def resolve(config: SelfTrainConfig) -> SelfTrainConfig:
    """Resolve the seeds, the device and the paths of a configuration.

    Raises:
        ValueError: a required setting is missing, or there is no such collection, weights file or device.
    """
    from pipelines.runtime.device import resolve_scale
    from pipelines.runtime.validation import check_collection, check_weights

    check_required(config)
    for uri in (config.collection, config.val_collection):
        if uri is not None:
            check_collection(uri)
    check_weights(config.network.backbone_weights)
    config = replace(config, scale=resolve_scale(config.scale, config.precision))
    return with_absolute_paths(with_seed(config))


def main() -> None:
    """Run from the command line."""
    cli_main(SelfTrainConfig, run, job=JOB, description=str(__doc__), common=HELP, presets=PRESETS)


if __name__ == "__main__":
    main()
