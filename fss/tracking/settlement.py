"""The end of a spool: send what is left of all processes, say what the store does not take, and remove the rest."""

import json
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fss.core import storage
from fss.core.json_values import parse_object
from fss.core.redaction import redact_passwords
from fss.tracking.delivery import DatasetId, Delivery, Entry, NotYetError, count_entries, request_length
from fss.tracking.run import Run
from fss.tracking.spool import (
    ENTRIES,
    entry_files,
    fetch,
    local_folder,
    open_spool,
    read_entries,
    remove,
    send,
    sent_bytes,
    within,
    write_sent,
)
from fss.tracking.store import is_refusal, reason

MARKER = "run.json"
"""File of a spool with the run and the store of its job."""
MODEL = "model"
"""Kind of the entries that are sent at the end only, since logging a model takes long."""
DELIVER_S = 60.0
"""Seconds that the end of a job waits for the entries of all its processes."""

Handlers = Mapping[str, Callable[[Entry, str, str], None]]
"""Functions that send entries of other kinds; they get the entry, the store's URI and its id of the run."""


@dataclass(kw_only=True)
class Outcome:
    """What came of a spool."""

    sent: list[Entry] = field(default_factory=list)
    """Entries that were sent."""
    left: list[Entry] = field(default_factory=list)
    """Entries that the store has not taken."""
    refused: list[str] = field(default_factory=list)
    """Why the store refused entries for good."""
    problem: str = ""
    """Why it does not take those that are left."""
    uri: str
    """Spool folder."""

    def note(self) -> str:
        """Return what is missing in the store and how to send it, in one sentence; empty if nothing is."""
        parts = []
        if self.left or self.problem:
            lacks = count_entries(self.left) or "the end"
            parts.append(
                f"MLflow lacks {lacks} of this job ({self.problem or 'no answer in time'}); "
                f"send them when it answers with: fss sync {shlex.quote(self.uri)}"
            )
        if self.refused:
            parts.append(f"MLflow refused {len(self.refused)} entries ({self.refused[0]})")
        return "; ".join(parts)


def mark(run: Run) -> None:
    """Write into the spool of a run which run it belongs to; a password in the store's URI is left out."""
    filesystem, path = storage.resolve(str(run.spool))
    record = {"run_id": run.run_id, "store": redact_passwords(run.uri), "private": run.private}
    storage.write_atomically(filesystem, f"{path}/{MARKER}", json.dumps(record).encode())


def read_marker(uri: str) -> dict[str, Any] | None:
    """Return the ``run_id``, ``store`` and privacy of a spool; None if there is no spool.

    Raises:
        ValueError: the file with them is damaged.
    """
    filesystem, path = storage.resolve(uri)
    if MARKER not in storage.list_names(filesystem, path):
        return None
    file = storage.join(uri, MARKER)
    advice = f"Without it, nobody knows where to send what is left; delete {uri} to give that up"
    try:
        record = parse_object(storage.read_bytes(file), file)
    except ValueError as error:
        raise ValueError(f"{error}. {advice}") from error
    if missing := [name for name in ("run_id", "store", "private") if name not in record]:
        raise ValueError(f"{file} is damaged: it has no {' and no '.join(missing)}. {advice}")
    return record


def deliver(uri: str, store: str, handlers: Handlers | None = None) -> Outcome:
    """Send what all processes have left in a spool; this process's own entries are sent by its thread."""
    outcome, folder = Outcome(uri=uri), fetch(uri)
    own = open_spool(uri, store).path
    paths = [path for path in entry_files(folder) if path != own]
    try:
        delivery = Delivery(store)
        _check_run(delivery, uri)
        while sum([_deliver_file(path, folder, delivery, handlers or {}, outcome) for path in paths]):
            pass  # a file may wait for a run that a later one opens
    except Exception as error:
        outcome.problem = reason(error)
    outcome.left = [entry for path in paths for entry, _ in read_entries(path, sent_bytes(path))]
    return outcome


def _check_run(delivery: Delivery, uri: str) -> None:
    """Check that a store has the run of a spool: another one would refuse all entries for good.

    Raises:
        ValueError: it has not.
    """
    marker = read_marker(uri)
    if marker is None:
        return
    try:
        delivery.client.get_run(marker["run_id"])
    except Exception as error:
        if not is_refusal(error):
            raise
        run, before = marker["run_id"], marker["store"]
        raise ValueError(f"{redact_passwords(delivery.uri)} has no run {run}, which began in {before}") from error


def _deliver_file(path: Path, folder: Path, delivery: Delivery, handlers: Handlers, outcome: Outcome) -> int:
    """Send what is left of a file, as far as the store has its runs, and return the number of entries."""
    pairs, before = list(read_entries(path, sent_bytes(path))), len(outcome.sent)
    while pairs:
        count = request_length([entry for entry, _ in pairs])
        entries = [_at_hand(entry, folder) for entry, _ in pairs[:count]]
        try:
            outcome.refused += _send(delivery, entries, handlers)
        except NotYetError:
            break
        outcome.sent += entries
        write_sent(path, pairs[count - 1][1])
        pairs = pairs[count:]
    return len(outcome.sent) - before


def _send(delivery: Delivery, entries: list[Entry], handlers: Handlers) -> list[str]:
    handler = handlers.get(entries[0]["kind"])
    if handler is None:
        return send(delivery, entries)
    handler(entries[0], delivery.uri, delivery.run_id(entries[0]["run"]))
    return []


def _at_hand(entry: Entry, folder: Path) -> Entry:
    """Return an entry whose file is in this machine's folder of the spool."""
    return {**entry, "content": str(folder / Path(entry["content"]).name)} if "content" in entry else entry


def keep_model(
    run: Run, checkpoint: str, *, metrics: Mapping[str, float] | None = None, dataset: DatasetId | None = None
) -> None:
    """Write into the spool of a run that its model is the checkpoint of this URI; a handler logs it later.

    Args:
        run: run of the training.
        checkpoint: folder of the checkpoint.
        metrics: metrics of the model.
        dataset: logged dataset that they were measured on.
    """
    folder = local_folder(str(run.spool))
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"kind": MODEL, "run": run.run_id, "checkpoint": checkpoint, "private": run.private}
    entry |= {"metrics": dict(metrics or {}), "dataset": dataset}
    (folder / f"{time.time_ns():020d}-model{ENTRIES}").write_text(json.dumps(entry) + "\n")


def settle(uri: str, store: str, *, seconds: float, finished: bool, handlers: Handlers | None = None) -> Outcome:
    """Send everything that is left, and remove the spool of a finished job if nothing is.

    Args:
        uri: spool folder.
        store: URI of the MLflow store.
        seconds: time to wait for the entries of this process, and as long for those of the others.
        finished: whether the job has finished.
        handlers: functions for entries of other kinds.
    """
    spool, outcome = open_spool(uri, store), Outcome(uri=uri)
    if spool.flush(seconds) or spool.blocked:
        try:
            outcome = within(seconds, lambda: deliver(uri, store, handlers))
        except Exception as error:
            outcome.problem = reason(error)
        spool.flush(seconds)
    outcome.problem = outcome.problem or spool.problem
    outcome.left = [
        entry for path in entry_files(local_folder(uri)) for entry, _ in read_entries(path, sent_bytes(path))
    ]
    if outcome.left:
        spool.mirror()
    outcome.refused += spool.refused
    spool.refused = []
    if finished and not outcome.left and not outcome.problem:
        with suppress(OSError):
            remove(uri)
    return outcome


def settle_finished(uri: str, store: str, summary: Any, *, handlers: Handlers | None = None) -> Outcome:
    """Send the spool of a job that has finished, and close its run if the job was killed before it could.

    Args:
        uri: spool folder.
        store: URI of the MLflow store.
        summary: content of the job's ``summary.json``, with the id of its run; None: only the spool tells how the run
            ended.
        handlers: functions for entries of other kinds.
    """
    marker = read_marker(uri)
    assert marker is not None, "a spool names its run"
    run = Run(uri=store, experiment_id="", run_id=marker["run_id"], private=marker["private"], spool=uri)
    finished = summary is not None and summary["run_id"] == run.run_id
    if finished and not _has_ended(uri, run.run_id):
        run.log_json("summary.json", summary)
        run.log("finish")
    return settle(uri, store, seconds=DELIVER_S, finished=finished or _has_ended(uri, run.run_id), handlers=handlers)


def _has_ended(uri: str, run_id: str) -> bool:
    """Return whether the entries of a spool end its run as finished."""
    ends = [
        entry["kind"] == "finish" or entry["status"] == "FINISHED"
        for path in entry_files(fetch(uri))
        for entry, _ in read_entries(path)
        if entry["run"] == run_id and entry["kind"] in ("finish", "status")
    ]
    return bool(ends) and ends[-1]
