"""Send to MLflow what it has missed: metrics, settings and files that jobs kept while it did not answer.

    fss sync runs
    fss sync s3://bucket/runs/masksplit --tracking http://mlflow:5000

A job that runs again with the same settings does the same. A job that has finished keeps nothing afterwards.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from fss.core import storage
from fss.core.config import settings
from fss.core.exit_codes import PARTIAL, SUCCESS


@settings
class Config:
    """The arguments of ``fss sync``."""

    folders: tyro.conf.Positional[tuple[str, ...]]
    """Output folders of jobs: local ones at any depth, or the s3:// URI of one job."""
    tracking: str | None = None
    """MLflow's store. None: MLFLOW_TRACKING_URI, or else the store of the job."""


def run(config: Config) -> int:
    """Send what is left, and return the exit code.

    Raises:
        ValueError: a folder does not exist, or the store of a job has a password, which is not kept.
    """
    from fss.inference.kept_models import model_handlers
    from fss.tracking.delivery import count_entries
    from fss.tracking.settlement import settle_finished
    from fss.tracking.store import tracking_uri

    code = SUCCESS
    for folder in config.folders:
        spools = list(_spools(folder))
        if not spools:
            print(f"{folder}: MLflow has everything")
        for spool, marker in spools:
            given = config.tracking or os.environ.get("MLFLOW_TRACKING_URI")
            if not given and "***" in marker["store"]:
                raise ValueError(f"the password of {marker['store']} is not kept; give the store as --tracking")
            outcome = settle_finished(
                spool, tracking_uri(given or marker["store"]), _summary(spool), handlers=model_handlers()
            )
            print(f"{spool}: sent {count_entries(outcome.sent) or 'nothing, MLflow has everything'}")
            if note := outcome.note():
                print(f"{spool}: {note}")
                code = PARTIAL
    return code


def _spools(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the spools at or below a folder, with their markers."""
    from fss.tracking.settlement import MARKER, read_marker
    from fss.tracking.spool import FOLDER

    uri = storage.absolute_uri(folder)
    if storage.is_remote(uri):
        candidates = [uri, storage.join(uri, FOLDER)]
    else:
        if not Path(uri).is_dir():
            raise ValueError(f"there is no folder {folder}; give the output folder of a job")
        candidates = sorted({uri, *(str(file.parent) for file in Path(uri).rglob(f"{FOLDER}/{MARKER}"))})
    for spool in candidates:
        if marker := read_marker(spool):
            yield spool, marker


def _summary(spool: str) -> Any:
    """Return the content of the summary beside a spool; None if the job has written none."""
    from fss.collection.part_io import exists, read_json

    file = storage.join(spool.rpartition("/")[0], "summary.json")
    return read_json(file) if exists(file) else None
