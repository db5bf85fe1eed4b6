"""Find the salient object of every photograph of a collection, without labels.

    python -m pipelines.pseudomask --collection my-collection
    python -m pipelines.pseudomask --collection s3://bucket/photos --accept-quantile 0.5
    python -m pipelines.pseudomask --collection my-collection --name refined --estimator student --student students/s
    python -m pipelines.pseudomask --collection my-collection --plan --fleet.images 1e9 --fleet.cores 4096

Writes the mask set, which of its masks a trainer may use, a report with contact sheets, and summary.json beside them.
Stop it any time: started again with the same settings it makes the missing parts only. ``pipelines.accept`` chooses
other masks later, without making any again.
"""

from dataclasses import replace
from functools import partial

from fss.collection import Collection
from fss.collection.config import AcceptanceRule
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.saliency.config import PRETRAINED, StudentSettings
from fss.saliency.cost_estimate import estimate_cost, measure_sample
from fss.saliency.estimators import EstimatorSettings, identity
from fss.saliency.pseudomask import pseudomask_part, pseudomask_parts
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from pipelines.masks.acceptance_report import accept_and_report
from pipelines.masks.config import PseudomaskConfig
from pipelines.runtime.map_parts import OnActors, PartFunction, PartsResult, run_parts
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.ray_session import count_gpus, ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before

JOB = "pseudomask"


def run(config: PseudomaskConfig, *, parent: Run | None = None) -> JobResult:
    """Make the mask set; finished parts are kept, and a finished job does nothing.

    Raises:
        ValueError: no such collection, or the mask set exists with other settings.
    """
    rule = AcceptanceRule(quantile=config.accept_quantile)
    settings = _settings(config)
    made_by = identity(settings)
    collection = Collection.open(config.collection)
    names = limited_parts(collection, config.limit)
    key = config_hash(
        [JOB, collection.uri, config.name, names], made_by, [config.accept_quantile, config.acceptance, config.seed]
    )
    if config.dry_run:
        return dry_run_result(JOB, config, {"parts": len(names), "images at most": len(names) * collection.part_size})
    if config.plan:
        sample = measure_sample(
            collection, settings, images=config.fleet.sample, seed=config.seed, device=config.device
        )
        return JobResult(
            job=f"{JOB} (plan)",
            inputs={"collection": collection.uri, "estimator": config.estimator},
            metrics=estimate_cost(sample, config.fleet),
        )
    masks = collection.create_mask_set(
        config.name,
        config_hash=config_hash(made_by),
        provenance={"method": "saliency", "estimator": config.estimator, "config": made_by},
        overwrite=config.overwrite,
    )
    finished = masks.finished_parts()
    if not config.overwrite and set(names) <= finished and (done := finished_before(masks.uri, key)):
        return done
    summary = JobResult(job=JOB, inputs={"collection": collection.uri, "saliency": masks.config_hash, "key": key})
    with job_run(
        JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config), fresh=config.overwrite
    ) as record:
        summary.run_id = record.run_id
        log_dataset(record, collection, context="pseudo-masks")
        with summary.timed("masks"):
            result = _make(config, collection.uri, settings, names, finished)
        with summary.timed("acceptance and report"):
            chosen = accept_and_report(
                collection, masks, names, rule, name=config.acceptance, seed=config.seed, record=record
            )
        summary.counts = chosen.counts | {"parts made": len(result.statistics), "parts kept": result.skipped}
        if images := result.total("images"):
            summary.metrics = {"images per second": round(images / result.seconds, 2)}
        summary.metrics |= chosen.metrics
        summary.outputs = {"mask set": masks.uri, **chosen.outputs}
        record.log_metrics({**{name.replace(":", ""): n for name, n in summary.counts.items()}, **summary.metrics})
        record.set_tags({"fss.mask_set": masks.config_hash, "fss.collection": collection.fingerprint()})
        summary.write(masks.uri)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _settings(config: PseudomaskConfig) -> EstimatorSettings:
    if (config.student is None) == (config.estimator == "student"):
        raise ValueError(
            f"got estimator {config.estimator!r} and student {config.student!r}; --estimator student and --student "
            "with its file belong together"
        )
    if config.estimator == "classical":
        if config.device != "cpu":
            raise ValueError(f"the classical estimator runs on the CPU, got device {config.device!r}; leave it out")
        return config.saliency
    if config.estimator == "vit":
        weights = config.vit.weights
        local = weights not in (None, PRETRAINED)
        return replace(config.vit, weights=storage.absolute_uri(str(weights))) if local else config.vit
    return StudentSettings(path=storage.absolute_uri(str(config.student)))


def _make(
    config: PseudomaskConfig, uri: str, settings: EstimatorSettings, names: list[str], finished: set[str]
) -> PartsResult:
    if set(names) <= finished:
        return PartsResult(statistics=[], skipped=len(names), seconds=0.0)
    with ray_session():
        task = _task(config, uri, settings)
        return run_parts(names, task, stage=JOB, finished=finished, workers=config.workers)


def _task(config: PseudomaskConfig, uri: str, settings: EstimatorSettings) -> PartFunction | OnActors:
    """One task per part on CPUs; on GPUs processes that stay."""
    if config.device == "cpu":
        return partial(pseudomask_part, uri, config.name, cfg=settings)
    if not (gpus := count_gpus()):
        raise ValueError("device is cuda but Ray sees no GPU; start it where there is one, or leave the device out")
    stage = partial(pseudomask_parts, collection_uri=uri, set_name=config.name, cfg=settings, device=config.device)
    return OnActors(function=stage, actors=gpus * config.actors_per_gpu, gpus=1 / config.actors_per_gpu)


def limited_parts(collection: Collection, limit: int | None) -> list[str]:
    """Return the first parts of a collection that hold ``limit`` images, or all; ValueError where there are none."""
    names = collection.part_names()
    if not names:
        raise ValueError(f"the collection {collection.uri} holds no images yet; ingest photographs into it first")
    if limit is None:
        return names
    if limit < 1:
        raise ValueError(f"limit is 1 or more images, got {limit}")
    return names[: -(-limit // collection.part_size)]


def main() -> None:
    """Run from the command line."""
    cli_main(PseudomaskConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
