"""A local Ray that is too slow to start is started again."""

import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from fss.collection import ingest_local
from fss.collection.config import SourceConfig
from fss.core.exit_codes import exit_cleanly
from fss.tracking.run import tracking_client
from pipelines.runtime import ray_session as room
from tests.helpers.fault_injection import MARK, clean, kill_worker

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(room.__file__).parents[2])}
SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup"
CODE = """
import ray
from pipelines.runtime.ray_session import ray_session
with ray_session():
    print(ray.get(ray.remote(lambda: 42).remote()))
"""


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Say how the next starts of Ray end: with these messages, then well; returns what each was asked for."""

    def prepare(*failures: str) -> list[int]:
        asked: list[int] = []

        def init(*, num_cpus: int, **_: Any) -> None:
            asked.append(num_cpus)
            if len(asked) <= len(failures):
                raise Exception(failures[len(asked) - 1])

        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        return asked

    return prepare


def test_ray_is_started_again_where_it_was_too_slow(starts: Callable[..., list[int]]) -> None:
    asked = starts(SLOW, SLOW)
    with room.ray_session(num_cpus=5):
        assert asked == [5, 5, 5]


def test_ray_that_never_starts_ends_the_job_with_advice(starts: Callable[..., list[int]]) -> None:
    asked = starts(*[SLOW] * 9)
    with pytest.raises(RuntimeError, match=r"in 3 tries.*logs"), room.ray_session():
        pass
    assert len(asked) == room.STARTS


def test_other_faults_of_a_start_are_not_repeated(starts: Callable[..., list[int]]) -> None:
    asked = starts("no room left")
    with pytest.raises(Exception, match="no room left"), room.ray_session():
        pass
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("address", "cause"), [("127.0.0.1:{}", "Connection refused"), ("ray://127.0.0.1:{}", "refused"), ("head", "Inval")]
)
def test_an_address_without_a_cluster_is_told_at_once(
    address: str, cause: str, starts: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would wait for it without end."""

    def init(**_: Any) -> None:
        raise ValueError("Invalid address format:\nhead")  # as Ray says of the last one

    with socket.create_server(("127.0.0.1", 0)) as free:
        address = address.format(free.getsockname()[1])
    starts()
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", address)
    message = rf"RAY_ADDRESS is '{address}', but no Ray cluster answers there \(.*{cause}.*\)\. Start one with"
    with pytest.raises(ValueError, match=message), room.ray_session():
        pass


def test_sigterm_while_ray_starts_ends_the_job_as_anywhere(
    starts: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray's own handlers, which it installs at once, would end it with exit code 15 or 1."""

    def init(**_: Any) -> None:
        ray._private.utils.set_sigterm_handler(lambda number, _: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    starts()
    monkeypatch.setattr(ray, "init", init)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stopped, exit_cleanly("job"), room.ray_session():
            pytest.fail("Ray has started")
        assert stopped.value.code == 143
        assert capsys.readouterr().err.startswith("job: error: stopped by SIGTERM")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(SystemExit) as stopped, room.ray_session():  # without an own handler, Ray's
            pytest.fail("Ray has started")
        assert stopped.value.code == 15
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it tells which signals are caught")
def test_sigterm_is_caught_while_the_processes_of_ray_end(
    starts: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's compiled code gives SIGTERM its default first, which Python does not notice."""
    caught = []

    def shutdown() -> None:
        ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
        ray._private.worker._global_node.kill_all_processes(check_alive=False)

    def stop_processes(*, check_alive: bool) -> None:
        mask = re.search(r"^SigCgt:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
        caught.append(mask is not None and bool(int(mask[1], 16) >> signal.SIGTERM - 1 & 1))

    starts()
    monkeypatch.setattr(ray, "shutdown", shutdown)
    monkeypatch.setattr("ray._private.worker._global_node", SimpleNamespace(kill_all_processes=stop_processes))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with exit_cleanly("job"), room.ray_session():
            pass
        assert caught == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_a_real_ray_whose_agent_was_late_once_works_after_all(tmp_path: Path) -> None:
    late = tmp_path / "late"
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, sys, time\n"
        f"late = pathlib.Path({str(late)!r})\n"
        "if 'dashboard/agent.py' in ' '.join(sys.orig_argv) and not late.exists():\n"
        "    late.touch()\n"
        "    time.sleep(40)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert late.exists()
    assert ended.stdout.strip() == "42"
    assert "trying again" in ended.stderr


@pytest.mark.slow
def test_a_worker_killed_while_ray_starts_does_not_hold_it_up_for_ever() -> None:
    for _ in range(2):  # some hung, not all
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment[MARK] = uuid.uuid4().hex
        running = subprocess.Popen([sys.executable, "-c", CODE], env=environment, start_new_session=True)
        running.mark = environment[MARK]  # type: ignore[attr-defined]
        try:
            assert kill_worker(running, random.Random(0), None) == ""
            assert running.wait(timeout=120) == 0
        finally:
            running.kill()
            clean(running)


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_ends_as_killed_and_goes_on_later(tmp_path: Path) -> None:
    """SIGTERM is what ``ray job stop``, Kubernetes and spot machines send."""
    collection = tmp_path / "photos"
    ingest_local(SourceConfig(kind="sample", count=96), str(collection), part_size=4)
    tracking = ["--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db", "--tracking.experiment", "stop"]
    words = [sys.executable, "-m", "pipelines.pseudomask", "--collection", str(collection), "--workers", "2", *tracking]
    parts = collection / "masks/saliency"
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as running:
        deadline = time.monotonic() + 120
        while not list(parts.glob("part-*.parquet")):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        running.terminate()
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 143, stderr
    assert stderr.splitlines()[-1].startswith("pseudomask: error: stopped by SIGTERM")
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.parquet")}
    assert 0 < len(before) < 24
    client = tracking_client(f"sqlite:///{tmp_path}/mlflow.db")
    [stopped] = client.search_runs([client.get_experiment_by_name("stop").experiment_id])
    assert stopped.info.status == "KILLED"
    subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    assert {name: (parts / name).stat().st_mtime_ns for name in before} == before
    assert len(list(parts.glob("part-*.parquet"))) == 24
    assert client.get_run(stopped.info.run_id).info.status == "FINISHED"
