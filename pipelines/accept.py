"""Choose which masks of a set a trainer may use, from the scores that are stored with them: seconds, and no Ray.

    python -m pipelines.accept --collection my-collection --acceptance best --quantile 0.25
    python -m pipelines.accept --collection my-collection --acceptance sharp --scores contrast --gates gate_area

No mask is made again. Writes acceptance-<name>.json and a report beside the mask set; train with
``--masks saliency --acceptance best``. The acceptance of a name that exists already is replaced.
"""

from fss.collection import Collection
from fss.core.config import config_hash, to_dict
from fss.tracking.run import Run
from pipelines.masks.acceptance_report import accept_and_report
from pipelines.masks.config import AcceptConfig
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.result import JobResult, cli_main, dry_run_result

JOB = "accept"


def run(config: AcceptConfig, *, parent: Run | None = None) -> JobResult:
    """Write the acceptance and its report.

    Raises:
        ValueError: no such collection or mask set, no finished part, or a rule that the set has no scores for.
    """
    collection = Collection.open(config.collection)
    masks = collection.mask_set(config.name)
    finished = masks.finished_parts()
    parts = [part for part in collection.part_names() if part in finished]
    if not parts:
        raise ValueError(f"the mask set {masks.uri} has no finished part yet; make masks first")
    if config.dry_run:
        return dry_run_result(JOB, config, {"parts": len(parts)})
    key = config_hash([JOB, masks.uri, config.acceptance], masks.config_hash, config.rule, config.seed)
    summary = JobResult(job=JOB, inputs={"mask set": masks.uri, "rule": config_hash(config.rule), "key": key})
    with job_run(JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config)) as record:
        summary.run_id = record.run_id
        with summary.timed("acceptance and report"):
            done = accept_and_report(
                collection, masks, parts, config.rule, name=config.acceptance, seed=config.seed, record=record
            )
        summary.counts, summary.metrics, summary.outputs = done.counts, dict(done.metrics), dict(done.outputs)
        record.log_metrics({**{name.replace(":", ""): n for name, n in done.counts.items()}, **done.metrics})
        record.set_tags({"fss.mask_set": masks.config_hash})
        record.log_json("summary.json", to_dict(summary))
    return summary


def main() -> None:
    """Run from the command line."""
    cli_main(AcceptConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
