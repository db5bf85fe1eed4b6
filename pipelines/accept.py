"""Select the masks of a set that a trainer may use, by their stored scores. It takes seconds and does not use Ray.

    python -m pipelines.accept --collection my-collection --acceptance best --quantile 0.25
    python -m pipelines.accept --collection my-collection --acceptance sharp --scores contrast --gates gate_area

The job makes no masks. It writes the acceptance and a report into metadata/<set>/ of the collection, and replaces an
existing acceptance of the same name. Train with ``--mask-set saliency --acceptance best``.
"""

from dataclasses import replace

from fss.core import storage
from fss.core.config import config_hash
from fss.core.flags import check_required
from fss.tracking.run import Run
from pipelines.masks.config import ACCEPT_HELP, AcceptConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.labels import Labels
from pipelines.runtime.result import JobResult

JOB = "accept"


def run(config: AcceptConfig, *, parent: Run | None = None) -> JobResult:
    """Write the acceptance and its report.

    Raises:
        ValueError: there is no such collection or mask set, no part is finished, or the set lacks scores of the rule.
    """
    from fss.collection import Collection
    from pipelines.masks.acceptance_report import accept_and_report

    config = resolve(config)
    collection = Collection.open(config.collection)
    masks = collection.mask_set(config.mask_set)
    finished = masks.finished_parts()
    parts = [part for part in collection.part_names() if part in finished]
    if not parts:
        raise ValueError(f"the mask set {masks.uri} has no finished part yet; run the job that makes it first")
    with Job(
        JOB,
        config,
        key=config_hash([JOB, masks.uri, config.acceptance], masks.config_hash, config.rule, config.seed),
        output_dir=None,  # summary.json beside the masks belongs to the job that made them
        inputs={"mask set": masks.uri, "rule": config_hash(config.rule)},
        plan={"parts": len(parts)},
        labels=Labels(data=collection.name, result=f"{masks.name}/{config.acceptance}"),
        parent=parent,
        tags={"fss.mask_set": masks.config_hash},
    ) as job:
        if job.done:
            return job.result
        with job.timed("acceptance and report"):
            accepted = accept_and_report(
                masks, parts, config.rule, name=config.acceptance, seed=config.seed, run=job.run
            )
        job.result.counts = accepted.counts
        job.result.metrics = dict(accepted.metrics)
        job.result.outputs = dict(accepted.outputs)
    return job.result


def resolve(config: AcceptConfig) -> AcceptConfig:
    """Return the configuration that the job uses.

    Raises:
        ValueError: a required setting or the collection is missing.
    """
    from pipelines.runtime.validation import check_collection

    check_required(config)
    check_collection(config.collection)
    return replace(config, collection=storage.absolute_uri(config.collection))


def main() -> None:
    """Run from the command line."""
    cli_main(AcceptConfig, run, job=JOB, description=str(__doc__), common=ACCEPT_HELP)


if __name__ == "__main__":
    main()
