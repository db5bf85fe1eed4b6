"""Writers of one file never lose each other's changes, on a local disk and on an object store."""

import errno
import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fss.core import versioned
from fss.core.storage import join


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else str(request.getfixturevalue("s3"))


def test_a_file_is_replaced_only_as_it_was_read(folder: str) -> None:
    uri = join(folder, "new", "a.json")
    assert versioned.read(uri) == (None, None)
    first = versioned.write(uri, b"1", None)
    with pytest.raises(versioned.ConflictError):
        versioned.write(uri, b"2", None)
    assert versioned.read(uri) == (b"1", first)
    second = versioned.write(uri, b"2", first)
    for call in (lambda: versioned.write(uri, b"3", first), lambda: versioned.delete(uri, first)):
        with pytest.raises(versioned.ConflictError):
            call()
    assert versioned.read(uri) == (b"2", second)
    assert versioned.write(uri, b"2", first) == second, "the answer to a write may be lost"
    versioned.delete(uri, second)
    assert versioned.read(uri) == (None, None)


def add(uri: str, number: int) -> None:
    versioned.update(uri, lambda old: json.dumps(sorted([*json.loads(old or b"[]"), number])).encode())


def test_no_update_is_lost(folder: str) -> None:
    uri = join(folder, "numbers.json")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, [uri] * 12, range(12)))
    assert json.loads(versioned.read(uri)[0] or b"") == list(range(12))


def test_processes_take_turns_and_leave_no_lock(tmp_path: Path) -> None:
    uri = str(tmp_path / "numbers.json")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add, args=(uri, number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert json.loads(versioned.read(uri)[0] or b"") == list(range(6))
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.json"]


def test_a_disk_without_locks_compares_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(versioned.fcntl, "flock", flock)
    uri = str(tmp_path / "numbers.json")
    add(uri, 1)
    with pytest.raises(versioned.ConflictError):
        versioned.write(uri, b"[2]", None)
    assert json.loads(versioned.read(uri)[0] or b"") == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.json"]


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(versioned.storage, "MAX_ATTEMPTS", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with pytest.raises(OSError, match=r"s3://bucket/a\.json: Could not connect"):
        versioned.read("s3://bucket/a.json")
