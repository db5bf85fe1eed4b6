"""What killed processes leave in the temporary folder is deleted, and nothing else."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fss.core.temporary import OLD_S, delete_leftovers, owned_path, owned_prefix


@pytest.mark.parametrize("folder", [True, False])
def test_only_what_dead_processes_left_is_deleted(
    folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own, foreign = owned_path("workers").name, owned_prefix("checkpoint").replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    namespace = own.split("-")[2]
    ages = {
        own: 0.0,
        f"{foreign}a": 0.0,
        f"fss-checkpoint-{namespace}-1-a": OLD_S + 60,  # of a living process of another user
        f"fss-workers-1{namespace}-{ended.pid}-a": OLD_S + 60,  # of another container
        f"fss-workers-{'0a' * 16}": OLD_S + 60,
        f"fss-workers-{'0b' * 16}": OLD_S - 60,
        "fss-tune-abcdefg_": OLD_S + 60,
        "fss-tracking-0123": OLD_S + 60,
        "other": OLD_S + 60,
    }
    for name, age in ages.items():
        path = tmp_path / name
        path.mkdir() if folder else path.touch()
        changed = path.stat().st_mtime - age
        os.utime(path, (changed, changed))
    assert delete_leftovers() == 3
    deleted = {f"{foreign}a", f"fss-workers-{'0a' * 16}", "fss-tune-abcdefg_"}
    assert {path.name for path in tmp_path.iterdir()} == ages.keys() - deleted


@pytest.mark.parametrize("kind", ["workers", "checkpoint", "tune", "model", "push"])
def test_names_of_every_kind_tell_their_process(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = owned_path(kind)
    path.touch()
    assert delete_leftovers() == 0
    monkeypatch.setattr("fss.core.temporary.is_alive", lambda process: False)
    assert delete_leftovers() == 1 and not path.exists()
