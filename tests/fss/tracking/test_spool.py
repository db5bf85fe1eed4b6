"""What runs log outlasts a store that is away: kept on disk, sent in order, each step once, and told at the end."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fss.cli import sync
from fss.inference import kept_models
from fss.tracking import settlement, spool
from fss.tracking.delivery import Delivery, Entry, NotYetError, request_length
from fss.tracking.run import Run
from fss.tracking.settlement import deliver, keep_model, mark, settle, settle_finished


class RefusedError(Exception):
    """A request that the store answers, but does not take."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


class Store:
    """A store in memory, which can be away, refuse a run, or not have one yet."""

    def __init__(self) -> None:
        self.away, self.refused, self.missing, self.unknown = False, set[str](), set[str](), set[str]()
        self.entries: list[Entry] = []

    def delivery(self, uri: str) -> "FakeDelivery":
        return FakeDelivery(self, uri)

    def steps(self, run: str = "r") -> list[int]:
        return [each["step"] for each in self.entries if each["kind"] == "metrics" and each["run"] == run]

    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.entries]


class FakeDelivery:
    def __init__(self, store: Store, uri: str):
        self.store, self.uri, self.client = store, uri, self

    def run_id(self, run: str) -> str:
        if run in self.store.missing:
            raise NotYetError(run)
        return run

    def send(self, entries: Sequence[Entry]) -> None:
        if self.store.away:
            raise ConnectionError("Connection refused")
        if entries[0]["run"] in self.store.refused:
            raise RefusedError(f"no run {entries[0]['run']}")
        if entries[0]["kind"] == "open":
            self.store.missing.discard(entries[0]["run"])
        self.run_id(entries[0]["run"])
        self.store.entries += entries

    def get_run(self, run: str) -> None:
        if self.store.away:
            raise ConnectionError("Connection refused")
        if run in self.store.unknown:
            raise RefusedError(f"no run {run}")

    def get_metric_history(self, run: str, metric: str) -> list[Any]:
        if self.store.away:
            raise ConnectionError("Connection refused")
        return []


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store()
    monkeypatch.setattr(spool, "Delivery", store.delivery)
    monkeypatch.setattr(settlement, "Delivery", store.delivery)
    monkeypatch.setattr(spool, "RETRY_S", 0.02)
    monkeypatch.setattr(spool, "_SPOOLS", {})
    yield store
    store.away = False  # the threads of the test come to rest


@pytest.fixture
def run(tmp_path: Path, store: Store) -> Run:
    run = Run(uri="http://store", experiment_id="0", run_id="r", spool=str(tmp_path / "out" / "tracking"))
    mark(run)
    return run


def end(run: Run, *, finished: bool = False, seconds: float = 0.5) -> Any:
    return settle(str(run.spool), run.uri, seconds=seconds, finished=finished)


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget this process's files and threads, as a process does that starts after it was killed."""
    for each in spool._SPOOLS.values():
        each._waiting.clear()
    monkeypatch.setattr(spool, "_SPOOLS", {})


def test_entries_are_sent_in_order_and_a_finished_spool_is_removed(run: Run, store: Store) -> None:
    for step in range(5):
        run.log_metrics({"loss": 1.0}, step=step)
    run.log_image("a/b.png", np.zeros((2, 2, 3), np.uint8))
    run.end()
    assert end(run, finished=True, seconds=5).note() == ""
    assert store.steps() == [0, 1, 2, 3, 4] and store.kinds()[-2:] == ["file", "status"]
    assert not Path(str(run.spool)).exists()


def test_a_store_that_is_away_stalls_nothing_and_gets_all_when_it_is_back(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run.log_metrics({"loss": 1.0}, step=0)
    run.flush(5)
    store.away = True
    began = time.monotonic()
    for step in range(1, 50):
        run.log_metrics({"loss": 1.0}, step=step)
    assert time.monotonic() - began < 1.0
    note = end(run, finished=True, seconds=0.2).note()
    assert note.startswith("MLflow lacks 49 metrics of this job (Connection refused); send them when it answers with: ")
    assert note.endswith(f"fss sync {run.spool}")
    store.away = False
    assert end(run, finished=True, seconds=5).note() == ""
    assert store.steps() == list(range(50))
    assert capsys.readouterr().err.count("MLflow does not answer (Connection refused)") == 1


def test_a_killed_process_leaves_what_the_next_one_sends(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.log_metrics({"loss": 1.0}, step=1)
    run.flush(5)
    store.away = True
    run.log_metrics({"loss": 1.0}, step=2)
    run.log_image("sheet.png", np.zeros((2, 2, 3), np.uint8))
    run.flush(0.1)
    another_process(monkeypatch)
    assert run.last_step("loss") == 2, "a resumed training knows which steps are kept"
    assert run.latest_metrics("loss")[0] == 2
    store.away = False
    outcome = deliver(str(run.spool), run.uri)
    assert [entry["kind"] for entry in outcome.sent] == ["metrics", "file"]
    assert not outcome.left
    assert deliver(str(run.spool), run.uri).sent == [], "what is confirmed is not sent again"


def test_a_line_that_was_cut_is_left_out(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.away = True
    run.log_metrics({"loss": 1.0}, step=1)
    run.flush(0.1)
    another_process(monkeypatch)
    (file,) = spool.entry_files(Path(str(run.spool)))
    with file.open("ab") as lines:
        lines.write(b'{"kind": "metr\n' + lines.name.encode() + b'\n{"kind": "metrics", "run": "r')
    store.away = False
    assert len(deliver(str(run.spool), run.uri).sent) == 1


def test_a_full_disk_does_not_raise(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        run.log_metrics({"loss": 1.0}, step=1)
        run.flush(5)
    run.log_metrics({"loss": 1.0}, step=2)
    run.flush(5)
    assert store.steps() == [1, 2]


def test_what_the_store_refuses_is_told_and_holds_up_nothing(run: Run, store: Store) -> None:
    store.refused = {"gone"}
    replace(run, run_id="gone").log_metrics({"loss": 1.0}, step=1)
    run.log_metrics({"loss": 1.0}, step=1)
    assert end(run, finished=True, seconds=5).note() == "MLflow refused 1 entries (no run gone)"
    assert store.steps() == [1]


def test_an_entry_waits_for_the_run_that_another_process_opens(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.missing = {"local-1"}
    replace(run, run_id="local-1").log_metrics({"loss": 1.0}, step=1)
    run.flush(0.1)
    assert end(run, seconds=0.1).note().startswith("MLflow lacks 1 metric of this job (no answer in time)")
    another_process(monkeypatch)
    assert len(deliver(str(run.spool), run.uri).left) == 1
    store.missing.clear()
    assert deliver(str(run.spool), run.uri).left == []


def test_a_run_that_another_process_has_not_sent_is_opened_at_the_end(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.away = True
    replace(run, run_id="local-1").log("open")
    run.flush(0.1)
    another_process(monkeypatch)
    store.away, store.missing = False, {"local-1"}
    replace(run, run_id="local-1").log_metrics({"loss": 1.0}, step=1)
    assert end(run, finished=True, seconds=2).note() == ""
    assert store.kinds() == ["open", "metrics"]


def test_a_job_that_was_killed_after_its_summary_is_closed(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.log_metrics({"loss": 1.0}, step=1)
    run.flush(5)
    another_process(monkeypatch)
    outcome = settle_finished(str(run.spool), run.uri, {"run_id": "r", "counts": {}})
    assert outcome.note() == ""
    assert store.kinds() == ["metrics", "text", "finish"]
    assert not Path(str(run.spool)).exists()


def test_sync_sends_what_is_left_and_says_what_is_not(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(settlement, "DELIVER_S", 0.5)
    store.away = True
    run.log_metrics({"loss": 1.0, "speed": 2.0}, step=1)
    keep_model(run, "out/model")
    run.end()
    run.flush(0.1)
    another_process(monkeypatch)
    config = sync.Config(folders=(str(tmp_path),))
    assert sync.run(config) == 3
    assert "MLflow lacks 2 metrics, 1 file and 1 setting or tag of this job" in capsys.readouterr().out
    store.away = False
    models: list[Entry] = []
    monkeypatch.setattr(kept_models, "_deliver", lambda entry, *_: models.append(entry))
    another_process(monkeypatch)
    assert sync.run(config) == 0
    assert "sent 2 metrics, 1 file and 1 setting or tag" in capsys.readouterr().out
    assert [entry["checkpoint"] for entry in models] == ["out/model"]
    assert sync.run(config) == 0
    assert "MLflow has everything" in capsys.readouterr().out
    with pytest.raises(ValueError, match="there is no folder"):
        sync.run(sync.Config(folders=(str(tmp_path / "nothing"),)))


def test_another_store_gets_nothing_and_nothing_is_lost(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(settlement, "DELIVER_S", 0.5)
    store.away = True
    run.log_metrics({"loss": 1.0}, step=1)
    run.flush(0.1)
    another_process(monkeypatch)
    store.away, store.unknown, store.refused = False, {"r"}, {"r"}
    for _ in range(2):
        assert sync.run(sync.Config(folders=(str(tmp_path),), tracking="http://other")) == 3
        told = "MLflow lacks 1 metric of this job (http://other has no run r, which began in http://store)"
        assert told in capsys.readouterr().out
    store.unknown, store.refused = set(), set()
    another_process(monkeypatch)
    assert sync.run(sync.Config(folders=(str(tmp_path),), tracking="http://store")) == 0
    assert store.steps() == [1]


def test_a_password_of_the_store_is_not_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mark(replace(run, uri="https://me:hunter2@mlflow"))
    assert "hunter2" not in Path(str(run.spool), "run.json").read_text()
    with pytest.raises(ValueError, match=r"https://me:\*\*\*@mlflow is not kept; give the store as --tracking"):
        sync.run(sync.Config(folders=(str(tmp_path),)))


def test_an_object_store_keeps_what_a_machine_could_not_send(
    s3: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(uri="http://store", experiment_id="0", run_id="r", spool=f"{s3}/out/tracking")
    mark(run)
    store.away = True
    run.log_metrics({"loss": 1.0}, step=1)
    run.log_image("sheet.png", np.zeros((2, 2, 3), np.uint8))
    run.flush(0.2)
    another_process(monkeypatch)
    shutil.rmtree(spool.local_folder(str(run.spool)))  # another machine
    store.away = False
    outcome = settle_finished(str(run.spool), run.uri, {"run_id": "r"})
    assert [entry["kind"] for entry in outcome.sent] == ["metrics", "file"]
    assert outcome.note() == ""
    assert settlement.read_marker(str(run.spool)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"run_id": "a"}'])
def test_a_damaged_marker_of_a_spool_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / settlement.MARKER).write_text(content)
    with pytest.raises(ValueError, match=rf"run\.json.*delete {tmp_path} to give that up"):
        settlement.read_marker(str(tmp_path))


def test_requests_hold_metrics_of_one_run() -> None:
    metrics = [{"kind": "metrics", "run": run, "metrics": {"a": 1.0, "b": 2.0}} for run in "xxxy"]
    assert request_length(metrics) == 3
    assert request_length([{"kind": "tags", "run": "x"}, *metrics]) == 1
    assert request_length([*metrics[:2], {"kind": "tags", "run": "x"}]) == 2
    assert request_length([{"kind": "metrics", "run": "x", "metrics": dict.fromkeys(map(str, range(2000)), 0.0)}]) == 1


def test_the_spool_holds_redacted_values_only(run: Run, store: Store) -> None:
    store.away = True
    private = replace(run, private=True)
    private.set_tags({"fss.error": "OSError: /home/me/secret.png", "fss.place": "secret"})
    private.log_params({"path": "secret"})
    private.log_text("notes.md", "secret")
    private.log_image("secret.png", np.zeros((2, 2, 3), np.uint8))
    run.flush(0.05)
    lines = [json.loads(line) for file in spool.entry_files(Path(str(run.spool))) for line in file.open()]
    assert [line["tags"] for line in lines] == [{"fss.error": "OSError"}]


def test_delivery_is_for_mlflow() -> None:
    kinds = {"metrics", "params", "tags", "text", "file", "input", "status", "finish", "open"}
    assert all(hasattr(Delivery, f"_{kind}") for kind in kinds)
