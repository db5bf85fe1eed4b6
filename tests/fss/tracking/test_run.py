"""Runs in a real SQLite store."""

from pathlib import Path

import numpy as np
import pytest

from fss.tracking.run import Run, end_on_exit, find_unfinished, flatten, tracking_uri


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
