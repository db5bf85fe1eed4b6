"""MLflow runs as explicit objects, without global state.

A run with a spool hands everything that it logs to :mod:`fss.tracking.spool`, which never raises; a run without one
writes to the store at once, whose errors are raised.
"""

import json
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fss.core.config import flatten, to_dict
from fss.core.privacy import public_settings
from fss.core.redaction import redact_passwords
from fss.core.system import environment_tags
from fss.tracking.delivery import ERROR_TAG, LOCAL, NOTE_TAG, PARENT_TAG, DatasetId, Delivery
from fss.tracking.privacy import public_metrics, public_params, public_run_name, public_tags
from fss.tracking.spool import local_folder, logged_metrics, open_spool
from fss.tracking.store import ask, ensure_experiment, is_refusal, sqlite_path, tracking_client, tracking_uri

__all__ = [
    "ERROR_TAG",
    "PARENT_TAG",
    "Run",
    "ensure_experiment",
    "sqlite_path",
    "tracking_client",
    "tracking_uri",
]

OPEN_S = 15.0
"""Seconds that a stage waits for the store to open its run; the spool opens it later."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One MLflow run, identified by its id and usable from any process that reaches the tracking store."""

    uri: str
    """Absolute tracking URI."""
    experiment_id: str
    """Id of the experiment of the run."""
    run_id: str
    """Id of the run; of a run that the store may not have yet, its tag ``fss.local_run``."""
    private: bool = False
    """Log only what :mod:`fss.core.privacy` and :mod:`fss.tracking.privacy` list; no image, text or report."""
    spool: str | None = None
    """Folder that keeps what the store does not take; None: the run writes at once and raises."""

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
            parent: parent run, whose store, experiment, privacy and spool the new run takes over.
            params: settings or nested parameters to log.
            tags: tags besides those of the environment.
            private: whether to log only what cannot come from a user.

        Raises:
            ValueError: the store does not answer, and there is no spool.
        """
        if parent:
            return parent.child(name, params=params, tags=tags)
        uri = tracking_uri(uri)
        experiment_id = ensure_experiment(uri, experiment)
        run = cls(uri=uri, experiment_id=experiment_id, run_id="", private=private)
        name, tags = run._introduction(name, tags)
        created = ask(uri, lambda: tracking_client(uri).create_run(experiment_id, run_name=name, tags=tags))
        run = replace(run, run_id=created.info.run_id)
        if params:
            run.log_params(params)
        return run

    def child(
        self,
        name: str,
        *,
        params: Any = None,
        tags: Mapping[str, str] | None = None,
        find: Mapping[str, str] | None = None,
        unfinished: bool = True,
        local_id: str = "",
    ) -> "Run":
        """Create a run below this one, or continue one.

        Args:
            name: name of the run.
            params: settings or nested parameters to log.
            tags: tags besides those of the environment.
            find: tags of the child run that is continued, if there is one.
            unfinished: whether a finished one is left alone.
            local_id: id until the store has the run, the same in all processes that log to it.
        """
        name, tags = self._introduction(name, tags)
        entry = {
            "kind": "open",
            "run": local_id or f"{LOCAL}{uuid.uuid4().hex}",
            "parent": self.run_id,
            "experiment": self.experiment_id,
            "name": name,
            "tags": tags,
            "find": dict(find or {}),
            "unfinished": unfinished,
            "time": _now(),
        }
        if self.spool is None:
            run_id = Delivery(self.uri).open(entry)
        else:
            run_id = open_spool(self.spool, self.uri).open(entry, OPEN_S)
        run = replace(self, run_id=run_id)
        if params:
            run.log_params(params)
        return run

    @classmethod
    def resume(cls, run_id: str, *, uri: str | None = None, private: bool = False) -> "Run | None":
        """Mark an earlier run as running and return it; None if the store does not have it.

        Raises:
            ValueError: the store does not answer.
        """
        from mlflow.exceptions import MlflowException

        uri = tracking_uri(uri)

        def find() -> "Run | None":
            try:
                info = tracking_client(uri).get_run(run_id).info
            except MlflowException as error:
                if not is_refusal(error):
                    raise
                return None
            if info.lifecycle_stage != "active":
                return None
            return cls(uri=uri, experiment_id=info.experiment_id, run_id=run_id, private=private)

        run = ask(uri, find)
        if run is not None:
            run.mark_running()
        return run

    def log_params(self, params: Any) -> None:
        """Log settings or nested parameters under dotted names; parameters that the run already has keep their values.

        A private run knows from the types of settings which texts are public. Of other parameters it logs numbers with
        listed names.
        """
        if isinstance(params, Mapping):
            values = public_params(flatten(params)) if self.private else flatten(params)
        else:
            values = flatten(public_settings(params) if self.private else to_dict(params))
        if values:
            self.log("params", params={name: redact_passwords(str(value)) for name, value in values.items()})

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        *,
        step: int = 0,
        model: str | None = None,
        dataset: DatasetId | None = None,
    ) -> None:
        """Log metrics at a step; a private run logs those with listed names.

        Args:
            metrics: values by name.
            step: step of the training.
            model: id of the logged model that the metrics are of; its page shows them too.
            dataset: logged dataset that they were measured on.
        """
        kept = public_metrics(metrics) if self.private else metrics
        if kept:
            values = {name: float(value) for name, value in kept.items()}
            self.log("metrics", metrics=values, step=step, model=model, dataset=dataset)

    def log_model_input(self, model: str) -> None:
        """Record that the run uses the logged model with this id."""
        self.log("model_input", model=model)

    def describe(self, text: str) -> None:
        """Set the description, Markdown that MLflow shows on the run's page; a private run ignores the call."""
        self.set_tags({NOTE_TAG: text})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a private run sets those that are listed."""
        kept = public_tags(tags) if self.private else tags
        if kept:
            self.log("tags", tags={name: redact_passwords(str(value)) for name, value in kept.items()})

    def log_image(self, name: str, image: np.ndarray) -> None:
        """Log an image, uint8 [H,W,3], as the PNG artifact ``name``; a private run ignores the call."""
        from fss.visualize import png_bytes  # imports OpenCV

        if not self.private:
            self.log("file", png_bytes(image), name=name)

    def log_json(self, name: str, value: Any) -> None:
        """Log a plain value as the JSON artifact ``name``; a private run ignores the call."""
        self.log_text(name, json.dumps(value, indent=2))

    def log_text(self, name: str, text: str) -> None:
        """Log a text artifact; a private run ignores the call."""
        if not self.private:
            self.log("text", name=name, text=redact_passwords(text))

    def mark_running(self) -> None:
        """Mark the run as running again, without the error of its last attempt."""
        self.log("status", status="RUNNING")

    def end(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self.log("status", status=status)

    def log(self, kind: str, content: bytes | None = None, **values: Any) -> None:
        """Log an entry of a kind of :mod:`fss.tracking.delivery`, whose values may be logged, and a file's content.

        Raises:
            ValueError: the store does not answer, and there is no spool.
        """
        entry = {"kind": kind, "run": self.run_id, "time": _now(), **values}
        if self.spool is not None:
            open_spool(self.spool, self.uri).put(entry, content)
            return
        with tempfile.TemporaryDirectory() as folder:
            if content is not None:
                file = Path(folder) / "content"
                file.write_bytes(content)
                entry["content"] = str(file)
            ask(self.uri, lambda: Delivery(self.uri).send([entry]))

    def flush(self, seconds: float) -> None:
        """Wait for the store to take what this process has logged; a spool in an object store keeps the rest there."""
        if self.spool is not None:
            spool = open_spool(self.spool, self.uri)
            if not spool.flush(seconds):
                spool.mirror()

    def last_step(self, metric: str) -> int:
        """Return the last logged step of a metric; -1 if there is none.

        With a spool, the steps that it keeps count, and a store that is away does not matter.
        """

        def stored(delivery: Delivery) -> int:
            history = delivery.client.get_metric_history(delivery.run_id(self.run_id), metric)
            return max((entry.step for entry in history), default=-1)

        if self.spool is None:
            return stored(Delivery(self.uri))
        kept, _ = logged_metrics(local_folder(self.spool), self.run_id).get(metric, (-1, 0.0))
        answer = open_spool(self.spool, self.uri).ask(stored)
        return kept if answer is None else max(kept, answer)

    def latest_metrics(self, metric: str) -> tuple[int, dict[str, float]]:
        """Return the last step of one metric (-1 if there is none) and the latest values of all metrics.

        With a spool, the values that it keeps count, and a store that is away does not matter.
        """

        def stored(delivery: Delivery) -> dict[str, float]:
            return dict(delivery.client.get_run(delivery.run_id(self.run_id)).data.metrics)

        if self.spool is None:
            metrics = stored(Delivery(self.uri))
        else:
            kept = logged_metrics(local_folder(self.spool), self.run_id)
            answer = open_spool(self.spool, self.uri).ask(stored)
            metrics = (answer or {}) | {name: value for name, (_, value) in kept.items()}
        return (self.last_step(metric) if metric in metrics else -1), metrics

    def tag(self, name: str) -> str | None:
        """Return the value of a tag; None if the run does not have it, or its store is away and it has a spool."""

        def stored(delivery: Delivery) -> str | None:
            value = delivery.client.get_run(delivery.run_id(self.run_id)).data.tags.get(name)
            return None if value is None else str(value)

        return stored(Delivery(self.uri)) if self.spool is None else open_spool(self.spool, self.uri).ask(stored)

    def _introduction(self, name: str, tags: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
        """Return the name and the tags of a new run, with those of the environment, as it may log them."""
        cleaned = {key: redact_passwords(value) for key, value in {**environment_tags(), **(tags or {})}.items()}
        return (public_run_name(name, cleaned), public_tags(cleaned)) if self.private else (name, cleaned)


def _now() -> int:
    return int(time.time() * 1000)
