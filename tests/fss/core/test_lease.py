"""An output has one writer: twins are told, a dead owner is replaced, and a lost lock stops its job."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fss.core import lease, versioned
from fss.core.lease import LOCK, Owner, hold
from fss.core.storage import join


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEW_S", 0.05), ("EXPIRE_S", 0.4), ("POLL_S", 0.02)):
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else join(str(request.getfixturevalue("s3")), "out")


@pytest.fixture
def living() -> Iterator[Owner]:
    """A living process of this machine."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield replace(Owner.of_this_process(), process=process.pid, started=lease._start_of(process.pid))
    process.kill()
    process.wait()


def put(folder: str, owner: Owner | bytes) -> None:
    uri = join(folder, LOCK)
    versioned.write(uri, owner if isinstance(owner, bytes) else owner.encode(), versioned.read(uri)[1])


def test_a_folder_is_held_and_given_back(folder: str) -> None:
    uri = join(folder, LOCK)
    with hold(folder, "it"), hold(folder, "it"):
        first = json.loads(versioned.read(uri)[0] or b"")
        assert (first["host"], first["process"]) == (socket.gethostname(), os.getpid())
        time.sleep(0.3)
        again = json.loads(versioned.read(uri)[0] or b"")
        assert again["renewed"] > first["renewed"] and again["since"] == first["since"]
    assert versioned.read(uri) == (None, None)


def test_a_twin_is_told_who_holds_it_since_when_and_what_to_do(living: Owner, folder: str) -> None:
    put(folder, living)
    with pytest.raises(ValueError, match=r"another job writes a training") as refused, hold(folder, "a training"):
        pytest.fail("both write")
    for words in (f"process {living.process} on {living.host}, since 20", "Wait until it ends", join(folder, LOCK)):
        assert words in str(refused.value)
    assert (versioned.read(join(folder, LOCK))[0] or b"") == living.encode()


@pytest.mark.parametrize("hours", [0, -5, 5])
def test_a_process_elsewhere_is_known_by_its_signs_of_life_whatever_its_clock(
    folder: str, living: Owner, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRE_S", 20.0)  # on a busy machine a sign of life may come late
    away = replace(living, host="elsewhere", started="another-system/1:5", renewed=time.time() + 3600 * hours)
    put(folder, away)
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(0.05):
            put(folder, replace(away, renewed=time.time() + 3600 * hours))

    thread = threading.Thread(target=live)
    thread.start()
    with pytest.raises(ValueError, match="on elsewhere"), hold(folder, "it"):
        pytest.fail("both write")
    ended.set()
    thread.join()


DEAD: list[Callable[[Owner], Owner | bytes]] = [
    lambda own: replace(own, started=own.started + "1"),  # its number is that of a younger process
    lambda own: replace(own, process=2**22 + 1),
    lambda own: replace(own, started="another-system/1:5"),
    lambda own: replace(own, started="another-system/1:5", renewed=time.time() + 5 * 3600),
    lambda own: b"{}",
]


@pytest.mark.parametrize("change", DEAD)
def test_a_dead_owner_is_replaced(change: Callable[[Owner], Owner | bytes], tmp_path: Path) -> None:
    put(str(tmp_path), change(Owner.of_this_process()))
    with hold(str(tmp_path), "it"):
        assert json.loads(Path(tmp_path, LOCK).read_text())["process"] == os.getpid()


def test_a_job_stops_if_its_folder_is_taken_over(
    tmp_path: Path, living: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        with hold(str(tmp_path), "it"):
            put(str(tmp_path), living)
            assert stopped.wait(5)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "another process has taken over it" in capsys.readouterr().err
    assert Path(tmp_path, LOCK).read_bytes() == living.encode(), "the new owner's lock stays"


def test_a_job_that_empties_its_folder_keeps_it(tmp_path: Path) -> None:
    with hold(str(tmp_path), "it"):
        Path(tmp_path, LOCK).unlink()
        deadline = time.monotonic() + 5
        while not Path(tmp_path, LOCK).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert Path(tmp_path, LOCK).exists()
    assert not Path(tmp_path, LOCK).exists()
