"""Segment the salient object of every photograph of a collection, without labels.

    python -m pipelines.pseudomask --collection my-collection
    python -m pipelines.pseudomask --collection s3://bucket/photos --accept-quantile 0.5
    python -m pipelines.pseudomask --collection my-collection --output-mask-set refined --estimator student \\
        --student students/<name>/student.safetensors
    python -m pipelines.pseudomask --collection my-collection --plan --fleet.images 1e9 --fleet.cores 4096

The job writes the mask set, an acceptance (the masks that a trainer may use), a report with contact sheets, and
summary.json. A stopped job makes the missing parts when it runs again with the same settings. ``pipelines.accept``
selects other masks later without making them again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fss.collection.config import AcceptanceRule
from fss.core import storage
from fss.core.config import config_hash
from fss.core.flags import check_required
from fss.saliency.config import PRETRAINED
from fss.tracking.run import Run
from pipelines.masks.config import PSEUDOMASK_HELP, PseudomaskJobConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job, dry_run
from pipelines.runtime.labels import Labels
from pipelines.runtime.output_dir import hold_mask_set
from pipelines.runtime.result import JobResult

if TYPE_CHECKING:
    from fss.collection import Collection, MaskSet
    from fss.saliency.estimators import EstimatorSettings
    from pipelines.runtime.faulty_rows import RowFunction
    from pipelines.runtime.map_parts import OnActors, PartFunction

JOB = "pseudomask"


def run(config: PseudomaskJobConfig, *, parent: Run | None = None) -> JobResult:
    """Make the missing parts of the mask set and accept masks; a finished job does nothing.

    Raises:
        ValueError: there is no such collection, student, weights file or device, or the mask set exists with other
            settings.
    """
    from fss.collection import Collection
    from fss.saliency.estimators import identity

    config = resolve(config)
    settings = config.estimator_settings()
    collection = Collection.open(config.collection)
    names = collection.first_parts(config.limit)
    if config.dry_run:
        return dry_run(JOB, config, {"parts": len(names), "images at most": len(names) * collection.part_size})
    if config.plan:
        return _plan(config, collection, settings)
    estimator = identity(settings, config.precision)
    with hold_mask_set(collection.uri, config.output_mask_set, overwrite=config.overwrite):
        masks = collection.create_mask_set(
            config.output_mask_set,
            config_hash=config_hash(estimator),
            provenance={"method": "saliency", "estimator": config.estimator, "config": estimator},
            overwrite=config.overwrite,
        )
        return _run(config, collection, masks, names, parent)


def _run(
    config: PseudomaskJobConfig, collection: Collection, masks: MaskSet, names: list[str], parent: Run | None
) -> JobResult:
    """Make the missing parts of the mask set and accept masks; with ``overwrite``, no other job writes it meanwhile."""
    from fss.saliency.estimators import identity
    from fss.tracking.lineage import log_dataset
    from pipelines.masks.acceptance_report import accept_and_report
    from pipelines.runtime.map_parts import run_parts

    settings = config.estimator_settings()
    estimator = identity(settings, config.precision)
    finished = masks.finished_parts()
    with Job(
        JOB,
        config,
        key=config_hash(
            [JOB, collection.uri, masks.name, names],
            estimator,
            [config.accept_quantile, config.acceptance, config.seed],
        ),
        output_dir=masks.metadata_uri,
        in_collection=True,
        inputs={"collection": collection.uri, "saliency": masks.config_hash},
        complete=set(names) <= finished and config.acceptance in masks.acceptance_names(),
        labels=Labels(data=collection.name, result=masks.name),
        parent=parent,
    ) as job:
        if job.done:
            return job.result
        log_dataset(job.run, collection, context="pseudo-masks")
        with job.timed("masks"):
            if not set(names) <= finished:
                job.start_ray()
            function, by_row = _functions(config, settings, collection)
            parts = run_parts(
                names,
                function,
                stage=JOB,
                finished=finished,
                workers=config.workers,
                failures=config.failures,
                by_row=by_row,
            )
            made = [name for name in names if name not in parts.failed]
        with job.timed("acceptance and report"):
            rule = AcceptanceRule(quantile=config.accept_quantile)
            accepted = accept_and_report(masks, made, rule, name=config.acceptance, seed=config.seed, run=job.run)
        job.result.counts = accepted.counts | {"parts made": parts.made, "parts kept": parts.skipped}
        if images := parts.total("images"):
            job.result.metrics["images per second"] = round(images / parts.seconds, 2)
        job.result.metrics |= accepted.metrics
        job.result.outputs = {"mask set": masks.uri, **accepted.outputs}
        job.result.notes += parts.notes()
        job.run.set_tags({"fss.mask_set": masks.config_hash, "fss.collection": collection.fingerprint()})
    return job.result


def resolve(config: PseudomaskJobConfig) -> PseudomaskJobConfig:
    """Resolve the device and the paths of a configuration, and build the estimator once as a check.

    Raises:
        ValueError: a required setting, the collection, student, weights or device are missing or do not fit.
    """
    from pipelines.runtime.device import resolve_device
    from pipelines.runtime.validation import check_collection, check_estimator

    check_required(config)
    check_collection(config.collection)
    config = replace(config, collection=storage.absolute_uri(config.collection))
    if config.estimator == "classical":
        if config.device not in ("auto", "cpu"):
            raise ValueError(
                f"the classical estimator runs on the CPU, got device {config.device!r}; leave --device out"
            )
        if config.precision != "fp32":
            raise ValueError(
                f"the classical estimator has no network, got precision {config.precision!r}; leave --precision out"
            )
        return replace(config, device="cpu")
    if config.student is not None:
        config = replace(config, student=storage.absolute_uri(config.student))
    if config.vit.weights not in (None, PRETRAINED):
        config = replace(config, vit=replace(config.vit, weights=storage.absolute_uri(str(config.vit.weights))))
    config = replace(config, device=resolve_device(config.device, precision=config.precision))
    check_estimator(config.estimator_settings())
    return config


def _plan(config: PseudomaskJobConfig, collection: Collection, settings: EstimatorSettings) -> JobResult:
    """Time a sample and estimate the cost of the job on the fleet."""
    from fss.saliency.cost_estimate import estimate_cost, measure_sample

    sample = measure_sample(
        collection,
        settings,
        images=config.fleet.sample,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )
    return JobResult(
        job=f"{JOB} (plan)",
        inputs={"collection": collection.uri, "estimator": config.estimator},
        metrics=estimate_cost(sample, config.fleet),
    )


def _functions(
    config: PseudomaskJobConfig, settings: EstimatorSettings, collection: Collection
) -> tuple[PartFunction | OnActors, RowFunction]:
    """Return the function of parts for the device, and the one that finds pictures at fault."""
    from fss.saliency.pseudomask import pseudomask_part, pseudomask_parts
    from pipelines.runtime.faulty_rows import RowFunction, collection_pictures
    from pipelines.runtime.map_parts import on_device

    uri, name, device = config.collection, config.output_mask_set, config.device
    one = partial(pseudomask_part, uri, name, cfg=settings, device=device, precision=config.precision)
    many = partial(
        pseudomask_parts,
        collection_uri=uri,
        set_name=name,
        cfg=settings,
        device=device,
        precision=config.precision,
    )
    pictures = collection_pictures(collection)
    return (
        on_device(one, many, device=device, actors_per_gpu=config.actors_per_gpu),
        RowFunction(function=one, pictures=pictures, gpus=float(device == "cuda")),
    )


def main() -> None:
    """Run from the command line."""
    cli_main(PseudomaskJobConfig, run, job=JOB, description=str(__doc__), common=PSEUDOMASK_HELP)


if __name__ == "__main__":
    main()
