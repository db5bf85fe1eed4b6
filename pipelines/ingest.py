"""Read photographs into a collection: each is decoded once and checked, and stored in parts for the later jobs.

    python -m pipelines.ingest --collection my-collection --source.path ~/photos
    python -m pipelines.ingest --collection s3://bucket/photos --source.path s3://bucket/raw
    python -m pipelines.ingest --collection birds --source.kind fss1000 --source.path ~/FSS-1000
    python -m pipelines.ingest --collection voc-val --source.kind voc --source.subset val --source.path ~/VOCdevkit
    python -m pipelines.ingest --collection coco-val --source.kind coco --source.subset val2014 --source.path ~/COCO2014
    python -m pipelines.ingest --collection roads --source.path ~/CamVid/train --source.masks index --source.void 11

An unusable photograph becomes a row with the reason, and does not stop the job. A stopped job makes the missing parts
when it runs again with the same settings. Up to 512 photographs are read in this process, more of them on Ray, on all
cores or a cluster; with --workers or on a cluster, all are read on Ray.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import config_hash
from fss.core.flags import check_required
from fss.core.lease import hold
from fss.tracking.run import Run
from pipelines.masks.config import INGEST_HELP, IngestConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job, dry_run, has_ray
from pipelines.runtime.labels import Labels
from pipelines.runtime.result import JobResult, read_result

if TYPE_CHECKING:
    from fss.collection import Collection
    from fss.collection.ingest import Ingest, IngestOutcome
    from fss.collection.label_check import LabelSummary
    from pipelines.runtime.map_parts import PartsResult

JOB = "ingest"
# Ray takes 9 s to start, start its first workers and stop. 512 photographs take 2 s in one process if they have 0.2
# megapixels, and 30 s if they have 12, which two cores on Ray do not beat (measured on two cores).
FEW = 512  # photographs that are ingested in this process
SHEET = 24  # pictures on the sheet of labels
FILES = "state of the files"
"""Input of a result: sizes and times of the files of the source."""
LISTED = 20  # quarantined files in the result; the collection has all of them


def run(config: IngestConfig, *, parent: Run | None = None) -> JobResult:
    """Make the missing parts of the collection; a finished job does nothing.

    Raises:
        ValueError: the source has no photographs, or masks but none that can be used, or the collection was made from
            another source.
    """
    from fss.collection.collection_file import check_place
    from fss.collection.division import divide
    from fss.collection.ingest import start_ingest
    from fss.collection.label_check import check_pairs
    from fss.collection.sources import list_items

    config = resolve(config)
    if config.dry_run:
        listing = list_items(config.source)
        check_place(config.collection, config.source.path, (item.relative_path for item in listing.items))
        if listing.labelled:
            check_pairs(listing.items, listing.unmatched, config.source, limit=config.limit)
        listing = listing.head(config.limit)
        shuffled = config.source.order == "shuffled"
        divided = divide(listing, shuffled=shuffled, part_size=config.part_size, part_bytes=config.part_bytes)
        plan = {"photographs": len(listing.items), "parts": len(divided), "largest part": max(map(len, divided))}
        notes = {f"note {number}": note for number, note in enumerate((*listing.notes, *listing.warnings), start=1)}
        return dry_run(JOB, config, {**plan, **listing.ignored, **notes})
    with hold(config.collection, f"the collection {config.collection}") if config.overwrite else nullcontext():
        ingest = start_ingest(
            config.collection,
            config.source,
            name=config.name,
            part_size=config.part_size,
            part_bytes=config.part_bytes,
            limits=config.limits,
            keep_bytes=config.keep_bytes,
            limit=config.limit,
            append=config.append,
            overwrite=config.overwrite,
        )
        return _run(config, ingest, parent)


def _run(config: IngestConfig, ingest: Ingest, parent: Run | None) -> JobResult:
    """Make the missing parts, and close the collection; with ``overwrite``, no other job writes it meanwhile."""
    from fss.collection.duplicates import DropDuplicates
    from fss.collection.ingest import finish_ingest
    from fss.collection.ingest_part import ingest_part, part_pictures
    from fss.collection.sources.file_states import file_states
    from fss.collection.upgrade import refresh_manifests
    from fss.tracking.lineage import log_dataset
    from pipelines.runtime.faulty_rows import RowFunction
    from pipelines.runtime.map_parts import run_parts

    collection, finished, files = ingest.collection, ingest.finished(), file_states(ingest.listing)
    drop = None
    if config.drop_duplicates:
        drop = DropDuplicates(distance=config.duplicate_distance, distinct_from=config.distinct_from)
    with Job(
        JOB,
        config,
        key=config_hash(
            {"job": JOB, "collection": collection.uri}, ingest.sources(), *([asdict(drop)] if drop else [])
        ),
        output_dir=collection.uri,
        in_collection=True,
        inputs={"source": config.source.path or config.source.kind, FILES: files},
        complete=set(ingest.parts) <= finished,
        labels=Labels(data=collection.name, amount=f"{ingest.items} photographs"),
        parent=parent,
    ) as job:
        if job.done:
            warn_of_written_files(collection.uri, files)
            return job.result
        missing = ingest.items * (len(ingest.parts) - len(finished)) / max(1, len(ingest.parts))
        few = missing <= FEW and config.workers is None and not has_ray()
        if not few:
            job.start_ray()
        with job.timed("parts"):
            parts = run_parts(
                ingest.parts,
                partial(ingest_part, collection.uri),
                stage=f"{JOB} {collection.uri.rpartition('/')[2]}",
                finished=finished,
                workers=config.workers,
                in_process=few,
                failures=config.failures,
                by_row=RowFunction(
                    function=partial(ingest_part, collection.uri), pictures=partial(part_pictures, collection.uri)
                ),
            )
        with job.timed("counting"):
            outcome = finish_ingest(ingest, drop)
            refresh_manifests(collection)
            _report(job.result, ingest, parts, outcome)
        if outcome.labels:
            with job.timed("sheet of labels"):
                _draw_labels(job, collection, outcome.labels)
        fingerprint = collection.fingerprint()
        job.run.set_tags({"fss.collection": fingerprint})
        log_dataset(job.run, collection, context="made", fingerprint=fingerprint, details=job.result.counts)
    return job.result


def warn_of_written_files(collection: str, files: str) -> None:
    """Say if files of a source have been written since a collection was made of them, which has them as they were.

    Args:
        collection: URI of the collection.
        files: the present state of the files.
    """
    before = (read_result(collection) or {"inputs": {}})["inputs"].get(FILES)
    if before not in (None, files):
        print(
            f"warning: photographs or masks of the source have been written since {collection} was made of them, and "
            "it keeps them as they were. To ingest them again, delete the collection, or give --overwrite, which "
            "deletes its mask sets too",
            file=sys.stderr,
            flush=True,
        )


def resolve(config: IngestConfig) -> IngestConfig:
    """Resolve the path of the collection.

    The path of the source is not resolved, because it is part of the identity of the source.

    Raises:
        ValueError: a required setting is missing, or the folder of the collection cannot be written.
    """
    from pipelines.runtime.output_dir import check_output_dir

    check_required(config)
    check_output_dir(config.collection)
    return replace(config, collection=storage.absolute_uri(config.collection))


def _report(result: JobResult, ingest: Ingest, parts: PartsResult, outcome: IngestOutcome) -> None:
    """Fill in the counts, metrics, notes and outputs of the result.

    Raises:
        ValueError: the source has masks, but none can be used.
    """
    from fss.collection.schema import error_reason

    collection = ingest.collection
    quarantine = collection.quarantine()
    reasons = Counter(error_reason(error) for error in quarantine.column("error").to_pylist())
    quarantined = quarantine.num_rows
    counts = {"photographs": ingest.items, "usable": ingest.items - quarantined, "quarantined": quarantined}
    counts |= {f"quarantined: {reason}": count for reason, count in reasons.most_common()}
    if labels := outcome.labels:
        if labels.photographs and not labels.masks:
            raise ValueError(outcome.warnings[-1])
        counts |= {"masks": labels.masks, "classes": len(collection.classes)}
        counts |= {f"without a mask: {reason}": count for reason, count in labels.without.most_common()}
    counts |= {f"ignored: {reason}": count for reason, count in ingest.listing.ignored.items()}
    result.counts = counts | {"parts made": parts.made, "parts kept": parts.skipped}
    if ingest.listing.notes:
        result.metrics["about the source"] = list(ingest.listing.notes)
    result.notes = [*outcome.warnings, *parts.notes()]
    if images := parts.total("images"):
        result.metrics["images per second"] = round(images / parts.seconds, 2)
    if quarantined:
        rows: list[dict[str, Any]] = quarantine.slice(0, LISTED).to_pylist()
        result.metrics["first of the quarantined"] = [f"{row['uri']}: {row['error']}" for row in rows]
    result.outputs = {"collection": collection.uri}


def _draw_labels(job: Job, collection: Collection, labels: LabelSummary) -> None:
    """Draw pictures with their masks and classes, so that people see a wrong palette at a glance."""
    from fss.collection import TRUTH
    from fss.collection.collection_file import LABEL_SHEET
    from fss.collection.overview import sample_labels
    from fss.visualize import label_sheet, png_bytes

    samples = sample_labels(collection.mask_set(TRUTH), count=SHEET, seed=0)
    sheet = label_sheet(samples, collection.classes, labels.classes, title=f"{collection.name}, ground truth")
    job.result.outputs["sheet of labels"] = storage.join(collection.uri, LABEL_SHEET)
    storage.write_atomically(*storage.resolve(job.result.outputs["sheet of labels"]), png_bytes(sheet))
    job.run.log_image(LABEL_SHEET, sheet)


def main() -> None:
    """Run from the command line."""
    cli_main(IngestConfig, run, job=JOB, description=str(__doc__), common=INGEST_HELP)


if __name__ == "__main__":
    main()
