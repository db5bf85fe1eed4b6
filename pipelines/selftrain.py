"""Semi-supervised semantic segmentation from few labels: the three-stage self-training of Ke et al. (IEEE TIP 2022).

    python -m pipelines.ingest --collection roads --source.path ~/roads --source.masks index   # masks of a few of them
    python -m pipelines.selftrain --preset folder --collection roads --output runs
    python -m pipelines.selftrain --preset folder --collection s3://bucket/roads --output s3://bucket/runs --device cuda
    python -m pipelines.selftrain --preset cityscapes --collection cityscapes-train --val-collection cityscapes-val ...
    python -m pipelines.selftrain --preset pascal --collection voc --network.backbone-weights deeplab-coco.pth ...

Stage 1 learns from the labelled pictures and masks all pictures; stages 2 and 3 start afresh, learn from labels, from a
teacher that is their own moving average and, with a second head, from the masks of the stage before, and mask all
pictures again. Pictures without labels need no mask file. Every stage is a training on Ray Train and a child run.

Writes the mask sets stage-1, stage-2 and stage-3 into the collection; <output>/<name>/stage-<n>/model (the last
weights, of the teacher where there is one), best (the checkpoint that the validation pictures like best; nothing is
made with it) and summary.json. The result is stage-3/model. Stop it any time: started again with the same settings, the
present stage goes on from its last checkpoint, or makes the missing parts of its masks.
"""

import dataclasses

from fss.core import storage
from fss.core.config import to_dict
from fss.models.semantic.network import build_semantic
from fss.tracking.run import Run
from pipelines.runtime.checkpoints import absolute_weights, weights_hash
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.output_dir import claim, remove
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before
from pipelines.self_training.config import PRESETS, STAGES, SelfTrainConfig, work_hash
from pipelines.self_training.data import SelfTrainData, data_hashes, open_data, stage_rows
from pipelines.self_training.stage import run_stage

JOB = "selftrain"


def run(config: SelfTrainConfig, *, parent: Run | None = None) -> JobResult:
    """Train all stages; finished ones are kept, and a finished job does nothing.

    Raises:
        ValueError: no such collection, mask set, list or weights file, settings that don't fit each other, or a
            training or masks of this name with other settings.
    """
    config = _absolute(config)
    data = open_data(config)
    known = data_hashes(data, config) | weights_hash(config.network.backbone_weights)
    key = work_hash(config, known)
    name = config.name or f"{config.network.network}-{key}"
    home = storage.join(config.output, name)
    counts = stage_rows(data, config, 1).counts | {"classes": len(data.table)}
    _check(config, data, counts)
    if config.dry_run:
        steps = sum(config.training.stage(stage).steps for stage in STAGES)
        return dry_run_result(JOB, config, {"name": name, "output": home, "steps of all stages": steps, **counts})
    if not config.overwrite and (done := finished_before(home, key)):
        return done
    if config.overwrite:
        remove(home, *(storage.join(config.output, "ray", f"{name}-stage-{stage}") for stage in STAGES))
        remove(*(storage.join(data.collection.uri, "masks", config.mask_set(stage)) for stage in STAGES))
    claim(home, key, to_dict(config), what=f"a self-training {name!r} in {config.output}")
    summary = JobResult(job=JOB, inputs={"name": name, "key": key, **known}, counts=counts)
    with (
        job_run(JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config)) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        for stage in STAGES:
            with summary.timed(f"stage {stage}"):
                finished = run_stage(config, data, stage, key=key, name=name, home=home, parent=record)
            summary.metrics |= {f"stage {stage}: {figure}": value for figure, value in finished.metrics.items()}
            summary.outputs |= {f"stage {stage}: {what}": uri for what, uri in finished.outputs.items()}
        summary.outputs |= {what: summary.outputs[f"stage 3: {what}"] for what in ("model", "mask set")}
        record.log_metrics({what.replace(" ", "_").replace(":", ""): value for what, value in summary.metrics.items()})
        record.set_tags({"fss.collection": known["collection"]})
        summary.write(home)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _check(config: SelfTrainConfig, data: SelfTrainData, counts: dict[str, int]) -> None:
    """Find out in seconds what would stop a stage hours later."""
    for stage in STAGES:
        batch = config.training.stage(stage)
        for kind in ("labelled", "pool"):
            if getattr(batch, kind) > counts[kind]:
                raise ValueError(
                    f"a step of stage {stage} wants {getattr(batch, kind)} {kind} pictures, there are {counts[kind]}; "
                    f"lower training's {kind} pictures or add pictures"
                )
        if config.scale.workers > batch.labelled:
            raise ValueError(
                f"{config.scale.workers} workers cannot share {batch.labelled} labelled pictures in a step of stage "
                f"{stage}; raise them, or use fewer workers"
            )
    if config.network.backbone_weights != "pretrained":
        build_semantic(config.network, classes=len(data.table))


def _absolute(config: SelfTrainConfig) -> SelfTrainConfig:
    """Return the settings with absolute places: workers run in other directories."""
    listed = config.labelled.list_file
    return dataclasses.replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        val_collection=config.val_collection and storage.absolute_uri(config.val_collection),
        network=dataclasses.replace(config.network, backbone_weights=absolute_weights(config.network.backbone_weights)),
        labelled=dataclasses.replace(config.labelled, list_file=listed and storage.absolute_uri(listed)),
    )


def main() -> None:
    """Run from the command line."""
    cli_main(SelfTrainConfig, run, job=JOB, description=str(__doc__), presets=PRESETS)


if __name__ == "__main__":
    main()
