"""Choose which masks of a set a trainer may use, from the scores that are stored with them: seconds, and no Ray.

    python -m pipelines.accept --collection my-collection --acceptance best --quantile 0.25
    python -m pipelines.accept --collection my-collection --acceptance sharp --scores contrast --gates gate_area

No mask is made again. Writes acceptance-<name>.json and a report beside the mask set; train with
``--mask-set saliency --acceptance best``. The acceptance of a name that exists already is replaced.
"""

from dataclasses import replace

from fss.core import storage
from fss.core.config import config_hash
from fss.tracking.run import Run
from pipelines.masks.config import ACCEPT_HELP, AcceptConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.flags import check_required
from pipelines.runtime.job import Job
from pipelines.runtime.result import JobResult

JOB = "accept"


def run(config: AcceptConfig, *, parent: Run | None = None) -> JobResult:
    """Write the acceptance and its report.

    Raises:
        ValueError: no such collection or mask set, no finished part, or a rule that the set has no scores for.
    """
    from fss.collection import Collection
    from pipelines.masks.acceptance_report import accept_and_report

    config = resolve(config)
    collection = Collection.open(config.collection)
    masks = collection.mask_set(config.mask_set)
    finished = masks.finished_parts()
    parts = [part for part in collection.part_names() if part in finished]
    if not parts:
        raise ValueError(f"the mask set {masks.uri} has no finished part yet; make masks first")
    with Job(
        JOB,
        config,
        key=config_hash([JOB, masks.uri, config.acceptance], masks.config_hash, config.rule, config.seed),
        output_dir=None,  # summary.json beside the masks is that of the job that made them
        inputs={"mask set": masks.uri, "rule": config_hash(config.rule)},
        plan={"parts": len(parts)},
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
