"""What a run says about where it was made."""

import os
import subprocess
import sys
from typing import Any

import pytest

from fss.core.system import environment_tags, git_commit, installed_packages, require_device


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


def test_a_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    require_device("cpu")
    with pytest.raises(ValueError, match="there is no device gpu on this machine; the devices are cpu, cuda"):
        require_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"the device is cuda, but torch cannot use that GPU: torch .*; or take the"):
        require_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_device("cuda:1")
    with pytest.raises(ValueError, match="cuda:2, but torch cannot use that GPU: there are 2, which count from 0"):
        require_device("cuda:2")


def test_packages_are_listed_as_pip_does() -> None:
    lines = installed_packages().splitlines()
    assert any(line.startswith("torch==") for line in lines)
    assert lines == sorted(lines, key=str.lower)


@pytest.mark.parametrize("program", ["import pipelines", "from fss.cli.main import main; main(['--version'])"])
@pytest.mark.parametrize(("own", "policy"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_threads_sleep_while_they_wait(program: str, own: str | None, policy: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": own} if own else {})
    command = [sys.executable, "-c", f"{program}; import torch"]
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr
    assert f"OMP_WAIT_POLICY = '{policy}'" in shown
