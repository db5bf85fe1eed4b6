"""Runs in a real SQLite store."""

import errno
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import numpy as np
import pytest

import fss.tracking.store as store_module
from fss.tracking.delivery import Delivery
from fss.tracking.lifetime import end_on_exit, find_unfinished
from fss.tracking.run import Run, ensure_experiment, flatten, sqlite_path, tracking_uri
from fss.tracking.spool import Spool
from fss.tracking.store import _schema_lock, ask, reason, require_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_relative_store_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri("http://somewhere:5000") == "http://somewhere:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert tracking_uri() == "http://elsewhere:5000"


SPECIAL = (
    "a b",
    "%20",
    "50%",
    "what?",
    "?mode=ro",
    "x#y",
    "ü 日本",
    "a+b&c=d;e",
    "@home:8",
    "quo'te\"",
    "{b}[*]",
    "%(p)s",
)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with MLflow's tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("tables")
    ensure_experiment(f"sqlite:///{folder}/mlflow.db", "unused")
    return folder / "mlflow.db"


@pytest.mark.parametrize("name", SPECIAL)
def test_a_store_lies_where_its_folder_is_whatever_its_name(
    name: str, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    folder = tmp_path / name
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    before = set(tmp_path.rglob("*"))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    by_default, plain = tracking_uri(), tracking_uri(f"sqlite:///{folder}/mlflow.db")
    encoded = tracking_uri(f"sqlite:///{quote(str(folder))}/mlflow.db")
    assert by_default == plain == encoded == tracking_uri(plain)
    assert sqlite_path(plain) == folder / "mlflow.db"
    assert tracking_uri(f"{plain}?timeout=20") == f"{plain}?timeout=20"

    run = Run.start("special", uri=by_default, experiment=name)
    run.log_json("settings.json", {"name": name})
    run.end()
    again = Run.resume(run.run_id, uri=by_default)
    assert again is not None
    assert again.experiment_id == run.experiment_id
    copy = mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/settings.json", tracking_uri=run.uri)
    assert json.loads(Path(copy).read_text()) == {"name": name}
    assert {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before} == {name}


def test_parent_child_params_metrics_and_figures(store: str) -> None:
    parent = Run.start("job", uri=store, params={"split": {"ratio": 0.5}, "name": "x"})
    with end_on_exit(Run.start("stage", parent=parent)) as child:
        child.log_metrics({"loss": 2.0}, step=3)
        child.log_metrics({"loss": 1.0}, step=4)
        child.log_image("figures/sheet.png", np.zeros((4, 5, 3), np.uint8))
        child.log_json("summary.json", {"a": 1})
    parent.end()

    seen = client(store).get_run(child.run_id)
    assert seen.data.tags["mlflow.parentRunId"] == parent.run_id
    assert seen.info.status == "FINISHED"
    assert client(store).get_run(parent.run_id).data.params == {"split.ratio": "0.5", "name": "x"}
    assert child.last_step("loss") == 4
    assert child.last_step("never logged") == -1
    assert [f.path for f in client(store).list_artifacts(child.run_id, "figures")] == ["figures/sheet.png"]


def test_a_run_that_never_finished_is_found_and_a_finished_one_is_not(store: str) -> None:
    run = Run.start("stopped", uri=store, tags={"fss.key": "abc"})
    again = find_unfinished("abc", uri=store, experiment="fss")
    assert again is not None
    assert again.run_id == run.run_id
    run.end()
    assert find_unfinished("abc", uri=store, experiment="fss") is None
    assert find_unfinished("unknown", uri=store, experiment="fss") is None


def test_an_error_ends_the_run_as_failed_with_its_reason(store: str) -> None:
    run = Run.start("fails", uri=store)
    with pytest.raises(ValueError, match="no such folder"), end_on_exit(run):
        raise ValueError("no such folder")
    seen = client(store).get_run(run.run_id)
    assert seen.info.status == "FAILED"
    assert "no such folder" in seen.data.tags["fss.error"]


def test_logging_a_parameter_again_keeps_its_value(store: str) -> None:
    run = Run.start("params", uri=store, params={"a": 1})
    run.log_params({"a": 2, "b": 3})
    assert client(store).get_run(run.run_id).data.params == {"a": "1", "b": "3"}


def test_flatten() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": None}, "e": [1]}) == {"a.b.c": 1, "a.d": None, "e": [1]}


def test_a_store_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    message = r"store http://me:\*\*\*@127.0.0.1:9 does not answer \(Connection refused\).*--tracking.uri"
    with pytest.raises(ValueError, match=message):
        Run.start("early", uri="http://me:secret@127.0.0.1:9")


def test_a_uri_that_names_no_store_is_told_at_once_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("mlruns", str(tmp_path), tmp_path.as_uri(), "ftp://me:secret@server"):
        with pytest.raises(
            ValueError, match=r"cannot open the store .*sqlite:///mlflow\.db.*--tracking.uri"
        ) as refused:
            Run.start("early", uri=uri)
        assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    for uri in ("sqlite:///", f"sqlite:///{tmp_path}"):  # MLflow would try to open a folder for two minutes
        with pytest.raises(ValueError, match=r"is a folder; give a SQLite file"):
            Run.start("early", uri=uri)
        with pytest.raises(ValueError, match="there is no MLflow store"):
            require_store(tracking_uri(uri))


def test_a_request_waits_for_a_store_that_another_process_has_locked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException

    # What MLflow raises after its own 20 s.
    locked = MlflowException("(sqlite3.OperationalError) database is locked\n[SQL: SELECT runs.run_uuid FROM runs]")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    request = Mock(side_effect=[locked, locked, "a run"])
    assert ask("sqlite:////a.db", request) == "a run"
    assert capsys.readouterr().err == "[mlflow] sqlite:////a.db is locked by another process; waiting for it\n"
    monkeypatch.setattr(store_module, "LOCKED_S", -1.0)
    with pytest.raises(ValueError, match=r"a\.db does not answer \(database is locked\)\. .* free the database"):
        ask("sqlite:////a.db", Mock(side_effect=locked))


def test_the_schema_is_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    path, entered = tmp_path / "new" / "mlflow.db", threading.Event()

    def enter() -> None:
        with _schema_lock(path):
            entered.set()

    thread = threading.Thread(target=enter)
    with _schema_lock(path):
        thread.start()
        assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set()
    assert list(path.parent.iterdir()) == []


def test_a_stage_that_begins_without_the_store_is_opened_later(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(Run.start("job", uri=store), spool=str(tmp_path / "tracking"))
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "ask", lambda *_: None)
        stage = job.child("stage", params={"a": 1}, tags={"fss.key": "late"}, find={"fss.key": "late"})
        below = stage.child("below")
    assert stage.run_id.startswith("local-")
    stage.log_metrics({"loss": 2.0}, step=3)
    stage.set_tags({"fss.error": "killed"})
    stage.end("KILLED")
    stage.flush(30)
    (opened,) = [run for run in client(store).search_runs(["1"]) if run.data.tags.get("fss.local_run") == stage.run_id]
    assert opened.data.tags["mlflow.parentRunId"] == job.run_id
    assert (opened.info.status, opened.data.params, opened.data.metrics) == ("KILLED", {"a": "1"}, {"loss": 2.0})
    assert stage.last_step("loss") == 3 and stage.tag("fss.error") == "killed"
    assert Delivery(store).client.get_run(Delivery(store).run_id(below.run_id)).info.run_name == "below"
    again = job.child("stage", find={"fss.key": "late"})
    assert again.run_id == opened.info.run_id
    assert again.tag("fss.error") is None, "a run that goes on has no error"


@pytest.mark.parametrize("slow", ["__init__", "_search"])
def test_a_store_that_answers_late_opens_a_stage_once(
    slow: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = getattr(Delivery, slow)

    def late(*words: Any) -> Any:
        answer = method(*words)
        if threading.current_thread().name == "mlflow request":  # the attempt that takes too long
            time.sleep(0.5)
        return answer

    job = replace(Run.start("job", uri=store), spool=str(tmp_path / "tracking"))
    monkeypatch.setattr("fss.tracking.run.OPEN_S", 0.05)
    monkeypatch.setattr(Delivery, slow, late)
    stage = job.child("stage")
    stage.end("KILLED")
    assert stage.run_id.startswith("local-"), "it did not wait"
    stage.flush(30)
    for thread in threading.enumerate():
        if thread.name == "mlflow request":
            thread.join()
    opened = [run for run in client(store).search_runs(["1"]) if run.data.tags.get("fss.local_run") == stage.run_id]
    assert [run.info.status for run in opened] == ["KILLED"]


def test_what_is_sent_twice_is_there_once(store: str) -> None:
    run = Run.start("twice", uri=store)
    entries = [
        {"kind": "metrics", "run": run.run_id, "time": 5, "step": step, "metrics": {"loss": value}}
        for step, value in enumerate((1.0, float("nan"), 0.5))
    ]
    for _ in range(2):
        Delivery(store).send(entries)
    assert [point.step for point in client(store).get_metric_history(run.run_id, "loss")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/runs/.mlflow.db.lock"), "/runs/.mlflow.db.lock is on a file"),
        (RuntimeError("(raised by autoflush)\n(sqlite3.OperationalError) database or disk is full"), "no space left"),
    ],
)
def test_a_disk_that_fails_is_told_as_the_cause(error: Exception, told: str) -> None:
    def request() -> None:
        raise error

    with pytest.raises(ValueError, match=f"MLflow's store sqlite:////runs/mlflow.db cannot be used: {told}"):
        ask("sqlite:////runs/mlflow.db", request)
    assert reason(RuntimeError("(autoflush)\n(sqlite3) database or disk is full")) == "database or disk is full"
