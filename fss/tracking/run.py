"""MLflow runs as explicit objects, without global state.

MLflow is imported when a run is opened, not with this module. Without a tracking server, everything is stored in one
SQLite file and a folder of artifacts beside it. Its path is made absolute because Ray workers run in other directories.
"""

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fss.core.config import flatten, to_dict
from fss.core.privacy import public_settings
from fss.core.redaction import redact_passwords
from fss.core.storage import decode_path
from fss.core.system import environment_tags
from fss.tracking.privacy import public_metrics, public_params, public_run_name, public_tags

DEFAULT_URI = "sqlite:///mlflow.db"
PARENT_TAG = "mlflow.parentRunId"
_PARAM_LIMIT = 6000  # MLflow's longest parameter value
_BATCH = 100  # MLflow's limit of parameters per request


def tracking_uri(uri: str | None = None) -> str:
    """Return the tracking URI: ``uri``, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the current directory.

    A relative SQLite path becomes absolute, and its special characters are encoded as SQLAlchemy reads them.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    path = sqlite_path(uri)
    if path is None:
        return uri
    encoded = str(path).replace("%", "%25").replace("?", "%3F")
    # For the short prefix, MLflow makes a folder of the encoded name.
    prefix = "sqlite:///" if encoded == str(path) else "sqlite+pysqlite:///"
    return f"{prefix}{encoded}{_query(uri)}"


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store; None for any other store, and for one in memory.

    A path that a user wrote without encoding it, such as ``/data/50%20off``, is taken as it is if only that exists.
    """
    store = re.match(r"sqlite(\+pysqlite)?:///(?!:memory:)", uri)
    return decode_path(uri[store.end() :].removesuffix(_query(uri))).absolute() if store else None


def ensure_experiment(uri: str, experiment: str) -> str:
    """Create the schema of the store and the experiment if missing, and return the id of the experiment.

    Call it once before several processes write, since SQLite cannot create the schema concurrently.
    """
    path = sqlite_path(uri)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    client = tracking_client(uri)
    existing = client.get_experiment_by_name(experiment)
    if existing is not None:
        return str(existing.experiment_id)
    location = (path.parent / "mlruns" / experiment).as_uri() if path else None
    return str(client.create_experiment(experiment, artifact_location=location))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One MLflow run, identified by its id and usable from any process that reaches the tracking store."""

    uri: str
    """Absolute tracking URI."""
    experiment_id: str
    """Id of the experiment of the run."""
    run_id: str
    """Id of the run."""
    private: bool = False
    """Log only what :mod:`fss.core.privacy` and :mod:`fss.tracking.privacy` list; no image, text or report."""

    @classmethod
    def start(
        cls,
        name: str,
        *,
        uri: str | None = None,
        experiment: str = "fss",
        parent: "Run | None" = None,
        params: Any = None,
        tags: Mapping[str, str] | None = None,
        private: bool = False,
    ) -> "Run":
        """Create a run.

        Args:
            name: name of the run.
            uri: tracking URI; see :func:`tracking_uri`.
            experiment: name of the experiment, created if missing.
            parent: parent run, whose store, experiment and privacy the new run takes over.
            params: settings or nested parameters to log.
            tags: tags besides those of the environment.
            private: whether to log only what cannot come from a user.
        """
        private = parent.private if parent else private
        uri = parent.uri if parent else tracking_uri(uri)
        experiment_id = parent.experiment_id if parent else ensure_experiment(uri, experiment)
        all_tags = environment_tags() | dict(tags or {})
        if parent:
            all_tags[PARENT_TAG] = parent.run_id
        tags = {key: redact_passwords(value) for key, value in all_tags.items()}
        if private:
            name, tags = public_run_name(name, tags), public_tags(tags)
        created = tracking_client(uri).create_run(experiment_id, run_name=name, tags=tags)
        run = cls(uri=uri, experiment_id=experiment_id, run_id=created.info.run_id, private=private)
        if params:
            run.log_params(params)
        return run

    @classmethod
    def resume(cls, run_id: str, *, uri: str | None = None, private: bool = False) -> "Run | None":
        """Mark an earlier run as running and return it; None if the store does not have it."""
        from mlflow.exceptions import MlflowException

        uri = tracking_uri(uri)
        client = tracking_client(uri)
        try:
            info = client.get_run(run_id).info
        except MlflowException:
            return None
        if info.lifecycle_stage != "active":
            return None
        client.update_run(run_id, status="RUNNING")
        return cls(uri=uri, experiment_id=info.experiment_id, run_id=run_id, private=private)

    def log_params(self, params: Any) -> None:
        """Log settings or nested parameters under dotted names; parameters that the run already has keep their values.

        A private run knows from the types of settings which texts are public. Of other parameters it logs numbers with
        listed names.
        """
        from mlflow.entities import Param

        client = tracking_client(self.uri)
        logged = client.get_run(self.run_id).data.params
        if isinstance(params, Mapping):
            values = public_params(flatten(params)) if self.private else flatten(params)
        else:
            values = flatten(public_settings(params) if self.private else to_dict(params))
        flat = {name: redact_passwords(str(value))[:_PARAM_LIMIT] for name, value in values.items()}
        entries = [Param(name, value) for name, value in flat.items() if name not in logged]
        for start in range(0, len(entries), _BATCH):
            client.log_batch(self.run_id, params=entries[start : start + _BATCH])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a step; a private run logs those with listed names."""
        from mlflow.entities import Metric

        metrics = public_metrics(metrics) if self.private else metrics
        now = int(time.time() * 1000)
        tracking_client(self.uri).log_batch(
            self.run_id, metrics=[Metric(name, float(value), now, step) for name, value in metrics.items()]
        )

    def last_step(self, metric: str) -> int:
        """Return the last logged step of a metric; -1 if there is none."""
        history = tracking_client(self.uri).get_metric_history(self.run_id, metric)
        return max((entry.step for entry in history), default=-1)

    def latest_metrics(self, metric: str) -> tuple[int, dict[str, float]]:
        """Return the last step of one metric (-1 if there is none) and the latest values of all metrics."""
        metrics = dict(tracking_client(self.uri).get_run(self.run_id).data.metrics)
        return (self.last_step(metric) if metric in metrics else -1), metrics

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a private run sets those that are listed."""
        for name, value in (public_tags(tags) if self.private else tags).items():
            tracking_client(self.uri).set_tag(self.run_id, name, redact_passwords(str(value)))

    def log_image(self, name: str, image: np.ndarray) -> None:
        """Log an image, uint8 [H,W,3], as the PNG artifact ``name``; a private run ignores the call."""
        from fss.visualize import save_png  # imports OpenCV

        if self.private:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            save_png(image, path)
            tracking_client(self.uri).log_artifact(self.run_id, str(path), str(Path(name).parent).lstrip("."))

    def log_json(self, name: str, value: Any) -> None:
        """Log a plain value as the JSON artifact ``name``; a private run ignores the call."""
        if not self.private:
            tracking_client(self.uri).log_dict(self.run_id, value, name)

    def log_text(self, name: str, text: str) -> None:
        """Log a text artifact; a private run ignores the call."""
        if not self.private:
            tracking_client(self.uri).log_text(self.run_id, redact_passwords(text), name)

    def mark_running(self) -> None:
        """Mark the run as running again after a library function has ended it."""
        tracking_client(self.uri).update_run(self.run_id, status="RUNNING")

    def end(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        tracking_client(self.uri).set_terminated(self.run_id, status)


def find_unfinished(
    key: str, *, uri: str, experiment: str | None = None, parent: Run | None = None, private: bool = False
) -> Run | None:
    """Return the latest unfinished run with the tag ``fss.key = key``, marked as running, or None.

    Args:
        key: value of the tag.
        uri: tracking URI.
        experiment: name of the experiment to search if there is no parent.
        parent: run whose children are searched.
        private: whether the run is private; a child takes over the privacy of its parent.
    """
    assert parent or experiment
    experiment_id = parent.experiment_id if parent else ensure_experiment(uri, str(experiment))
    query = f"tags.`fss.key` = '{key}'" + (f" and tags.`{PARENT_TAG}` = '{parent.run_id}'" if parent else "")
    for candidate in tracking_client(uri).search_runs([experiment_id], query, order_by=["attributes.start_time DESC"]):
        if candidate.info.status != "FINISHED":
            return Run.resume(candidate.info.run_id, uri=uri, private=parent.private if parent else private)
    return None


@contextmanager
def end_on_exit(run: Run) -> Iterator[Run]:
    """End ``run`` when the block exits: FINISHED, KILLED on Ctrl-C, or FAILED with the error as a tag."""
    try:
        yield run
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException as error:
        run.set_tags({"fss.error": f"{type(error).__name__}: {error}"[:500]})
        run.end("FAILED")
        raise
    run.end()


def tracking_client(uri: str) -> Any:
    """Return an MLflow client of a tracking store."""
    from mlflow import MlflowClient

    # Otherwise MLflow logs every migrated table of the store, and prints the URL of every run on a server.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("mlflow.store.db.utils", "mlflow.pyfunc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)

    return MlflowClient(tracking_uri=uri)


def _query(uri: str) -> str:
    """Return the options at the end of a SQLite URI, such as ``?timeout=20``; a folder's name may hold a ``?`` too."""
    options = re.search(r"\?\w+=[^/?]*$", uri)
    return options.group() if options else ""
