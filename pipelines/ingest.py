"""Bring photographs into a collection: decoded once, checked, in parts that every later job works through.

    python -m pipelines.ingest --collection my-collection --source.path ~/photos
    python -m pipelines.ingest --collection s3://bucket/photos --source.path s3://bucket/raw
    python -m pipelines.ingest --collection birds --source.kind fss1000 --source.path ~/FSS-1000
    python -m pipelines.ingest --collection voc-val --source.kind voc --source.subset val --source.path ~/VOCdevkit
    python -m pipelines.ingest --collection coco-val --source.kind coco --source.subset val2014 --source.path ~/COCO2014
    python -m pipelines.ingest --collection roads --source.path ~/CamVid/train --source.masks index --source.void 11

Photographs that cannot be used are kept as rows with the reason; nothing stops the job. Stop it any time: started again
with the same settings it makes the missing parts only.
"""

from collections import Counter
from functools import partial
from typing import Any

import pyarrow.compute as pc

from fss.collection import TRUTH, Collection
from fss.collection.ingest import Ingest, add_missing_class_names, start_ingest
from fss.collection.ingest_part import ingest_part
from fss.collection.schema import error_reason
from fss.collection.sources import list_items
from fss.core.config import config_hash, to_dict
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from pipelines.masks.config import IngestConfig
from pipelines.runtime.map_parts import PartsResult, run_parts
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before

JOB = "ingest"
SHOWN = 20  # bad files named in the summary; all of them are in the collection


def run(config: IngestConfig, *, parent: Run | None = None) -> JobResult:
    """Make the collection; finished parts are kept, and a finished job does nothing.

    Raises:
        ValueError: nothing to ingest, or the collection holds something else.
    """
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"limit is 1 or more photographs, got {config.limit}")
    if config.dry_run:
        found = list_items(config.source).head(config.limit)
        plan: dict[str, Any] = {
            "photographs": len(found.items),
            "parts": -(-len(found.items) // config.part_size),
            **found.ignored,
        }
        plan |= {f"note {number}": note for number, note in enumerate(found.notes, start=1)}
        return dry_run_result(JOB, config, plan)
    ingest = start_ingest(
        config.collection,
        config.source,
        name=config.name,
        part_size=config.part_size,
        limits=config.limits,
        keep_bytes=config.keep_bytes,
        limit=config.limit,
        append=config.append,
        overwrite=config.overwrite,
    )
    collection = ingest.collection
    key = config_hash({"job": JOB, "collection": collection.uri}, collection.metadata["sources"])
    finished = ingest.finished()
    if set(ingest.parts) <= finished and (done := finished_before(collection.uri, key)):
        return done
    summary = JobResult(job=JOB, inputs={"source": config.source.path or config.source.kind, "key": key})
    with (
        job_run(
            JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config), fresh=config.overwrite
        ) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        with summary.timed("parts"):
            task = partial(ingest_part, collection.uri)
            result = run_parts(ingest.parts, task, stage=JOB, finished=finished, workers=config.workers)
        with summary.timed("counting"):
            add_missing_class_names(collection)
            _fill(summary, ingest, result)
        record.log_metrics({**summary.counts, **{k: v for k, v in summary.metrics.items() if isinstance(v, float)}})
        fingerprint = collection.fingerprint()
        record.set_tags({"fss.collection": fingerprint})
        log_dataset(record, collection, context="made", fingerprint=fingerprint, details=summary.counts)
        summary.write(collection.uri)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _fill(summary: JobResult, ingest: Ingest, result: PartsResult) -> None:
    collection = ingest.collection
    bad = collection.quarantine()
    reasons = Counter(error_reason(error) for error in bad.column("error").to_pylist())
    summary.counts = {"photographs": ingest.items, "usable": ingest.items - bad.num_rows, "quarantined": bad.num_rows}
    summary.counts |= {f"quarantined: {reason}": count for reason, count in reasons.most_common()}
    if TRUTH in collection.mask_set_names():
        summary.counts |= _count_masks(collection, bad.num_rows)
        summary.counts["classes"] = len(collection.classes)
    summary.counts |= {f"ignored: {reason}": count for reason, count in ingest.ignored.items()}
    summary.counts |= {"parts made": len(result.statistics), "parts kept": result.skipped}
    if ingest.notes:
        summary.metrics["differs from the standard download"] = list(ingest.notes)
    images = result.total("images")
    if images:
        summary.metrics["images per second"] = round(images / result.seconds, 2)
    if bad.num_rows:
        rows: list[dict[str, Any]] = bad.slice(0, SHOWN).to_pylist()
        summary.metrics["first of the quarantined"] = [f"{row['uri']}: {row['error']}" for row in rows]
    summary.outputs = {"collection": collection.uri}


def _count_masks(collection: Collection, quarantined: int) -> dict[str, int]:
    truth = collection.mask_set(TRUTH)
    errors: Counter[str] = Counter()
    total = 0
    for part in collection.part_names():
        column = truth.read_part(part, ["error"]).column("error")
        total += len(column)
        errors.update(error_reason(error) for error in pc.drop_null(column).to_pylist())
    errors.pop("no-image", None)
    good = total - quarantined - errors.total()
    return {"masks": good} | {f"without a mask: {reason}": count for reason, count in errors.most_common()}


def main() -> None:
    """Run from the command line."""
    cli_main(IngestConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
