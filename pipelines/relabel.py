"""Make a collection's masks again with a trained segmenter, without labels: one round of self-training.

    python -m pipelines.relabel --collection my-collection --checkpoint runs/<name>/model --name round-1
    python -m pipelines.relabel --collection my-collection --checkpoint ... --source round-1 --name round-2
    python -m pipelines.relabel --collection my-collection --checkpoint ... --relabel.supports bank \\
        --bank.collection labelled --bank.classes train

Every picture is segmented with the most similar other pictures and their current masks as supports, several times:
mirrored, and with different supports. The new mask is what the answers share; how far they agree is kept as scores.
Writes the mask set with features and neighbours beside it, which of its masks a trainer may use (the best within every
cluster of alike pictures), a report with contact sheets, a report of the drift from the masks of before, a decision
(is the new set worth training on?), and summary.json. Stop it any time: started again with the same settings it makes
the missing parts only. ``pipelines.accept`` chooses other masks later, without making any again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fss.collection import Collection, MaskSet
from fss.core.config import config_hash, to_dict
from fss.relabel import feature_tables
from fss.relabel.neighbours import find_neighbours
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from pipelines.masks.acceptance_report import accept_and_report
from pipelines.pseudomask import limited_parts
from pipelines.relabeling.config import RelabelJobConfig
from pipelines.relabeling.report import assess_round
from pipelines.relabeling.task import Outcomes, RelabelTask, make_features, make_masks, one_part
from pipelines.runtime.map_parts import OnActors, PartsResult, run_parts
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.model_source import ModelSource, inspect_model, model_source
from pipelines.runtime.ray_session import count_gpus, ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before

__all__ = ["RelabelJobConfig", "main", "run"]

JOB = "relabel"


def run(config: RelabelJobConfig, *, parent: Run | None = None) -> JobResult:
    """Make the mask set; finished parts are kept, and a finished job does nothing.

    Raises:
        ValueError: no such collection, mask set, acceptance or checkpoint, settings that don't fit each other, or the
            mask set exists with other settings.
    """
    rule = config.rule()
    collection = Collection.open(config.collection)
    names = limited_parts(collection, config.limit)
    current = _current(collection, config, names)
    models = [model_source(uri, tracking=config.tracking.uri) for uri in (config.checkpoint, *config.earlier)]
    made_by = _identity(config, current, models)
    identity = config_hash(made_by)
    truth = collection.mask_set(config.audit) if config.audit else None
    how = [rule, config.acceptance, config.seed, config.go, truth and truth.config_hash]
    key = config_hash([JOB, collection.uri, config.name, names], made_by, how)
    if config.dry_run:
        counts = {"parts": len(names), "images at most": len(names) * collection.part_size}
        return dry_run_result(JOB, config, counts)
    masks = collection.create_mask_set(
        config.name,
        config_hash=identity,
        provenance={"method": JOB, "checkpoint": models[0].uri, "source": current.name, "config": made_by},
        overwrite=config.overwrite,
    )
    if not config.overwrite and set(names) <= masks.finished_parts() and (done := finished_before(masks.uri, key)):
        return done
    summary = JobResult(job=JOB, inputs={"collection": collection.uri, "model": made_by["model"], "key": key})
    with job_run(
        JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config), fresh=config.overwrite
    ) as record:
        summary.run_id = record.run_id
        log_dataset(record, current, context="relabelling", details={"acceptance": config.source_acceptance})
        task = RelabelTask(
            collection=collection.uri,
            name=config.name,
            source=current.name,
            identity=identity,
            model=models[0],
            earlier=tuple(models[1:]),
            config=config.relabel,
            shots=config.bank,
            device=config.device,
            cache_gb=config.cache_gb,
        )
        result = _make(config, task, masks, names, summary)
        with summary.timed("acceptance and report"):
            chosen = accept_and_report(
                collection, masks, names, rule, name=config.acceptance, seed=config.seed, record=record
            )
        with summary.timed("drift and decision"):
            assessment = assess_round(
                (current, config.source_acceptance),
                (masks, config.acceptance),
                names,
                config.go,
                truth=truth,
                seed=config.seed,
                record=record,
            )
        summary.counts |= chosen.counts | {"parts made": len(result.statistics), "parts kept": result.skipped}
        summary.metrics |= _speed(result) | chosen.metrics | assessment.metrics
        summary.outputs = {
            "mask set": masks.uri,
            **chosen.outputs,
            **assessment.outputs,
            "decision": str(assessment.decision),
        }
        record.log_metrics({**{name.replace(":", ""): n for name, n in summary.counts.items()}, **summary.metrics})
        record.set_tags({"fss.mask_set": identity, "fss.collection": collection.fingerprint()})
        summary.write(masks.uri)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _current(collection: Collection, config: RelabelJobConfig, names: list[str]) -> MaskSet:
    if config.name == config.source:
        raise ValueError(f"source and name are both {config.name!r}; masks are never written over those they come from")
    current = collection.mask_set(config.source)
    if missing := sorted(set(names) - current.finished_parts()):
        raise ValueError(
            f"mask set {current.name!r} lacks {len(missing)} of {len(names)} parts ({missing[0]}, ...); "
            "run the job that makes it again, it goes on where it stopped"
        )
    return current


def _identity(config: RelabelJobConfig, current: MaskSet, models: list[ModelSource]) -> dict[str, Any]:
    """Everything that decides the masks, by content."""
    (model, size), *earlier = map(inspect_model, models)
    if {other for _, other in earlier} - {size}:
        raise ValueError(f"earlier checkpoints see pictures of another size than the {size} pixels of the last one")
    chosen = config.source_acceptance and current.read_acceptance(config.source_acceptance).hash
    made_by: dict[str, Any] = {"model": model, "earlier": [name for name, _ in earlier]}
    made_by["config"] = to_dict(config.relabel)
    made_by |= {"masks of before": current.config_hash, "acceptance of before": chosen}
    if config.relabel.supports == "bank":
        labelled, pictures = config.bank.pictures()
        made_by["bank"] = [labelled.collection.fingerprint(), labelled.config_hash, sorted(pictures)]
    return made_by


def _make(
    config: RelabelJobConfig, task: RelabelTask, masks: MaskSet, names: list[str], summary: JobResult
) -> PartsResult:
    finished = masks.finished_parts()
    if set(names) <= finished:
        return PartsResult(statistics=[], skipped=len(names), seconds=0.0)
    accepted = None
    if config.source_acceptance:
        accepted = task.current().read_acceptance(config.source_acceptance).accepted
    with ray_session():
        # Stage 1: what every picture's object looks like (1:1).
        with summary.timed("features"):
            _parts("features", config, names, make_features, task, feature_tables.finished(masks, "features"))
        # Stage 2: neighbours and clusters of all, in this process.
        with summary.timed("neighbours"):
            summary.counts |= find_neighbours(masks, names, config.relabel, accepted=accepted)
        # Stage 3: masks (1:1).
        with summary.timed("masks"):
            return _parts("masks", config, names, make_masks, task, finished)


def _parts(
    what: str,
    config: RelabelJobConfig,
    names: list[str],
    make: Callable[..., Outcomes],
    task: RelabelTask,
    finished: set[str],
) -> PartsResult:
    """One task per part on CPUs; on GPUs processes that stay."""
    stage = f"{JOB} {what}"
    if config.device == "cpu":
        work = partial(one_part, make=make, task=task)
        return run_parts(names, work, stage=stage, finished=finished, workers=config.workers)
    if not (gpus := count_gpus()):
        raise ValueError("device is cuda but Ray sees no GPU; start it where there is one, or leave the device out")
    actors = OnActors(
        function=partial(make, task=task), actors=gpus * config.actors_per_gpu, gpus=1 / config.actors_per_gpu
    )
    return run_parts(names, actors, stage=stage, finished=finished)


def _speed(result: PartsResult) -> dict[str, float]:
    """Images per second of the masks, and the share of the processes' time that is not the networks'."""
    if not (images := result.total("images")):
        return {}
    seconds, network = (sum(row[name] for row in result.statistics) for name in ("seconds", "network"))
    return {
        "images per second": round(images / result.seconds, 2),
        "share outside the network": round(1 - network / seconds, 3),
    }


def main() -> None:
    """Run from the command line."""
    cli_main(RelabelJobConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
