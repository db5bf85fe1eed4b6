"""Where a model comes from: its run, its masks, what made these, and the photographs.

    python -m pipelines.lineage --model runs/<name>/model
    python -m pipelines.lineage --model models:/fss@champion --photographs used.csv

Everything is read from the tracking store, the checkpoint and the collections, and compared with what is there now: a
mask set or collection that has changed since says so.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from fss.tracking.run import tracking_uri
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.lineage_trace import photographs, trace
from pipelines.runtime.result import JobResult, cli_main

JOB = "lineage"


@dataclass(frozen=True, kw_only=True)
class LineageConfig:
    """Settings of the lineage command."""

    model: str
    """The model: folder of a checkpoint (local or s3:// URI), or models:/..., runs:/<run>/model of MLflow."""
    photographs: Path | None = None
    """File to list the photographs in that it could learn from: CSV of image_id and uri."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """The store that has its run."""


def run(config: LineageConfig) -> JobResult:
    """Trace a model.

    Raises:
        ValueError: there is no such model, or nothing says what it learned from.
    """
    found = trace(config.model, tracking=tracking_uri(config.tracking.uri))
    used = [node for node in found.walk() if node.photographs is not None and node.title.startswith("training")]
    summary = JobResult(job=JOB, inputs={"model": config.model}, report="\n".join(found.lines()) + "\n")
    rows = {row for node in used if node.photographs for row in photographs(node.photographs, node.acceptance)}
    summary.counts = {"photographs": len(rows)}
    if config.photographs is not None:
        if not rows:
            raise ValueError(f"no photographs of {config.model} can be listed; without --photographs it says why")
        with config.photographs.open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "uri"), *sorted(rows)])
        summary.outputs = {"photographs": str(config.photographs)}
    return summary


def main() -> None:
    """Run from the command line."""
    cli_main(LineageConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
