"""What a run says about where it was made."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fss.core.system import environment_tags, git_commit, installed_packages, monitor_system
from fss.tracking.run import Run, end_on_exit, tracking_client


def test_tags_name_versions_and_the_machine() -> None:
    import torch

    tags = environment_tags()
    assert tags["fss.torch"] == torch.__version__
    assert float(tags["fss.memory_gb"]) > 0.5
    assert int(tags["fss.cpus"]) >= 1
    assert {"fss.python", "fss.mlflow", "fss.ray", "fss.gpu", "fss.cuda", "fss.cpu"} <= set(tags)


def test_without_a_repository_the_commit_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", fails)
    monkeypatch.delenv("FSS_GIT_COMMIT", raising=False)
    assert git_commit() is None
    monkeypatch.setenv("FSS_GIT_COMMIT", "a" * 40)
    assert environment_tags()["mlflow.source.git.commit"] == "a" * 40


def test_packages_are_listed_as_pip_does() -> None:
    lines = installed_packages().splitlines()
    assert any(line.startswith("torch==") for line in lines)
    assert lines == sorted(lines, key=str.lower)


def test_the_machine_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with end_on_exit(Run.start("busy", uri=uri)) as run:
        for node in (None, "node-1"):
            with monitor_system(run.run_id, uri=uri, node=node):
                time.sleep(1.0)
    metrics = tracking_client(uri).get_run(run.run_id).data.metrics
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert "system/node-1/cpu_utilization_percentage" in metrics
