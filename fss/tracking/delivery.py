"""Delivery of log entries to an MLflow store, in order; an entry that is delivered twice changes nothing.

An entry is a plain dict with ``kind``, ``run`` (its id), and the values of its kind: ``metrics``, ``params``, ``tags``,
``text``, ``file``, ``input``, ``model_input``, ``status``, ``finish`` or ``open``. Metrics carry the time of their
logging: MLflow keeps one point per name, step, time and value.
"""

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fss.tracking.store import is_refusal, tracking_client

Entry = Mapping[str, Any]
DatasetId = tuple[str, str]
"""Name and digest of a logged dataset."""

PARENT_TAG = "mlflow.parentRunId"
ERROR_TAG = "fss.error"
NOTE_TAG = "mlflow.note.content"
"""Description of a run or model, in Markdown."""
LOCAL_TAG = "fss.local_run"
LOCAL = "local-"
"""Prefix of the id of a run that the store may not have yet; the run has the id as its tag :data:`LOCAL_TAG`."""
OPENING = threading.RLock()
"""Held while this process opens a run: two threads that open the same one would each create it."""
_PARAM_LIMIT = 6000  # MLflow's longest parameter value
_PARAMS, _METRICS = 100, 1000  # MLflow's limits of a request


class NotYetError(RuntimeError):
    """An entry belongs to a run that another process has not delivered yet."""


class Delivery:
    """Delivers entries to one store; errors of the store are raised."""

    def __init__(self, uri: str):
        self.uri, self.client, self._ids = uri, tracking_client(uri), dict[str, str]()

    def send(self, entries: Sequence[Entry]) -> None:
        """Deliver entries of one request, as :func:`request_length` counts them."""
        first = entries[0]
        if first["kind"] == "metrics":
            self._metrics(entries)
        else:
            getattr(self, f"_{first['kind']}")(first)

    def run_id(self, run: str) -> str:
        """Return the store's id of a run.

        Raises:
            NotYetError: the store does not have it yet.
        """
        if not run.startswith(LOCAL):
            return run
        if run not in self._ids:
            experiments = [each.experiment_id for each in self.client.search_experiments()]
            runs = self.client.search_runs(experiments, f"tags.`{LOCAL_TAG}` = '{run}'", max_results=1)
            if not runs:
                raise NotYetError(f"the run {run} is not in the store yet")
            self._ids[run] = runs[0].info.run_id
        return self._ids[run]

    def open(self, entry: Entry) -> str:
        """Return the id of a child run: the one of this entry, else one with the tags ``find``, else a new one.

        With ``unfinished``, a finished run is not continued.
        """
        local, parent = entry["run"], self.run_id(entry["parent"])
        found = self._search(entry, {LOCAL_TAG: local})
        if not found and entry["find"]:
            found = [
                run
                for run in self._search(entry, {**entry["find"], PARENT_TAG: parent})
                if not (entry["unfinished"] and run.info.status == "FINISHED")
            ]
        if found:
            run_id = found[0].info.run_id
            self.client.set_tag(run_id, LOCAL_TAG, local)
            self._set_status(run_id, "RUNNING")
        else:
            tags = {**entry["tags"], PARENT_TAG: parent, LOCAL_TAG: local}
            created = self.client.create_run(entry["experiment"], entry["time"], tags, entry["name"])
            run_id = created.info.run_id
        self._ids[local] = run_id
        return str(run_id)

    def _search(self, entry: Entry, tags: Mapping[str, str]) -> list[Any]:
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs([entry["experiment"]], query, order_by=["attributes.start_time DESC"]))

    def _open(self, entry: Entry) -> None:
        with OPENING:
            self.open(entry)

    def _metrics(self, entries: Sequence[Entry]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(name, value, entry["time"], entry["step"], **_measured(entry))
            for entry in entries
            for name, value in entry["metrics"].items()
        ]
        for start in range(0, len(points), _METRICS):
            self.client.log_batch(self.run_id(entries[0]["run"]), metrics=points[start : start + _METRICS])

    def _params(self, entry: Entry) -> None:
        """Log parameters; those that the run already has keep their values."""
        from mlflow.entities import Param

        run_id = self.run_id(entry["run"])
        logged = self.client.get_run(run_id).data.params
        new = [Param(name, value[:_PARAM_LIMIT]) for name, value in entry["params"].items() if name not in logged]
        for start in range(0, len(new), _PARAMS):
            self.client.log_batch(run_id, params=new[start : start + _PARAMS])

    def _tags(self, entry: Entry) -> None:
        for name, value in entry["tags"].items():
            self.client.set_tag(self.run_id(entry["run"]), name, value)

    def _text(self, entry: Entry) -> None:
        self.client.log_text(self.run_id(entry["run"]), entry["text"], entry["name"])

    def _file(self, entry: Entry) -> None:
        """Log the file ``content`` as the artifact ``name``, unless it was removed after its delivery."""
        source, name = Path(entry["content"]), Path(entry["name"])
        if not source.exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / name.name
            target.write_bytes(source.read_bytes())
            self.client.log_artifact(self.run_id(entry["run"]), str(target), str(name.parent).lstrip("."))
        source.unlink(missing_ok=True)

    def _input(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = [InputTag(name, value) for name, value in entry["tags"].items()]
        self.client.log_inputs(self.run_id(entry["run"]), [DatasetInput(Dataset(**entry["dataset"]), tags)])

    def _model_input(self, entry: Entry) -> None:
        from mlflow.entities import LoggedModelInput

        self.client.log_inputs(self.run_id(entry["run"]), models=[LoggedModelInput(entry["model"])])

    def _status(self, entry: Entry) -> None:
        self._set_status(self.run_id(entry["run"]), entry["status"], entry["time"])

    def _finish(self, entry: Entry) -> None:
        """End a run whose job has finished, if it was killed before it could; a run that was deleted stays so."""
        try:
            run_id = self.run_id(entry["run"])
            status = self.client.get_run(run_id).info.status
        except Exception as error:
            if is_refusal(error):
                return
            raise
        if status != "FINISHED":
            self._set_status(run_id, "FINISHED", entry["time"])

    def _set_status(self, run_id: str, status: str, time: int | None = None) -> None:
        """Set the status of a run; one that goes on or has finished loses the error of an earlier attempt."""
        if status in ("RUNNING", "FINISHED") and ERROR_TAG in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, ERROR_TAG)
        if status == "RUNNING":
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status, time)


def _measured(entry: Entry) -> dict[str, str]:
    """Return the model that metrics are of, and the dataset that they were measured on."""
    if not entry.get("model"):
        return {}
    name, digest = entry["dataset"] or (None, None)
    return {"model_id": entry["model"], "dataset_name": name, "dataset_digest": digest}


def request_length(entries: Sequence[Entry]) -> int:
    """Return how many of the first entries fit into one request: metrics of one run, or else one entry."""
    points = 0
    for number, entry in enumerate(entries):
        points += len(entry.get("metrics", ()))
        if entry["kind"] != "metrics" or entry["run"] != entries[0]["run"] or points > _METRICS:
            return max(1, number)
    return len(entries)


def count_entries(entries: Sequence[Entry]) -> str:
    """Return what entries contain, in words: ``40 metrics, 2 files and 1 other entry``."""
    kinds = [entry["kind"] for entry in entries]
    counts = {
        "metric": sum(len(entry["metrics"]) for entry in entries if entry["kind"] == "metrics"),
        "file": sum(kind in ("text", "file", "model") for kind in kinds),
        "setting or tag": sum(kind not in ("metrics", "text", "file", "model") for kind in kinds),
    }
    words = [f"{count} {_plural(name) if count > 1 else name}" for name, count in counts.items() if count]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _plural(name: str) -> str:
    return {"setting or tag": "settings or tags"}.get(name, f"{name}s")


def parse_entries(lines: Sequence[bytes]) -> Iterator[Entry | None]:
    """Yield the entries of complete lines; None for a line that a full disk has cut."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        yield entry if isinstance(entry, dict) else None
