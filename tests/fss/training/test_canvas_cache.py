"""The cache of canvases is bounded, shared by processes, and cleaned up."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fss.training import canvas_cache
from fss.training.canvas_cache import CanvasCache

SIZE = 16
BYTES = 3 * SIZE * SIZE
CANVAS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), np.uint8)


def cache(folder: Path | None, slots: int = 10, gigabytes: float | None = None, key: str = "k") -> CanvasCache:
    return CanvasCache(slots, SIZE, gigabytes=gigabytes, folder=folder, key=key)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(canvas_cache, "temporary_folder", lambda: tmp_path / "temporary")
    return tmp_path / "temporary"


def test_canvases_beyond_the_limit_are_not_stored(tmp_path: Path) -> None:
    full = cache(tmp_path, gigabytes=4.5 * BYTES / 1e9)
    for slot in range(10):
        full.put(slot, CANVAS)
    assert [full.has(slot) for slot in range(10)] == [True] * 4 + [False] * 6
    stored = full.get(3)
    assert stored is not None and not stored.flags.writeable
    np.testing.assert_array_equal(stored, CANVAS)
    assert full.get(4) is None
    assert cache(tmp_path, gigabytes=0, key="none").capacity == 0
    assert len(list(tmp_path.iterdir())) == 1, "a cache of size 0 has no file"


@pytest.mark.parametrize(("memory", "free", "slots"), [(8, 100, 4), (100, 12, 6), (1000, 1000, 10)])
def test_the_default_limit_is_half_of_the_memory_and_of_the_free_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, free: int, slots: int
) -> None:
    monkeypatch.setattr(canvas_cache, "memory_bytes", lambda: memory * BYTES)
    usage = type("Usage", (), {"free": free * BYTES})
    monkeypatch.setattr(canvas_cache.shutil, "disk_usage", lambda _: usage)
    assert cache(tmp_path).capacity == slots


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    own = cache(tmp_path)
    own.put(1, CANVAS)
    program = (
        "import pickle, sys\n"
        "other = pickle.load(sys.stdin.buffer)\n"
        "canvas = other.get(1)\n"
        "assert canvas is not None and not other.has(2)\n"
        "other.put(2, 255 - canvas)\n"
    )
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(own), check=True, cwd=Path.cwd())
    shared = own.get(2)
    assert shared is not None
    np.testing.assert_array_equal(shared, 255 - CANVAS)
    assert pickle.loads(pickle.dumps(own)).capacity == own.capacity == 10


def test_the_last_user_deletes_a_temporary_file_and_keeps_one_in_a_folder(temporary: Path, tmp_path: Path) -> None:
    first, second, kept = cache(None), cache(None), cache(tmp_path / "kept")
    first.put(0, CANVAS)
    first.close()
    assert second.has(0)
    assert len(list(temporary.iterdir())) == 1
    second.close()
    kept.close()
    assert not list(temporary.iterdir())
    assert cache(tmp_path / "kept", key="other") and len(list((tmp_path / "kept").iterdir())) == 2


def test_files_of_killed_processes_are_deleted_and_used_ones_are_not(temporary: Path) -> None:
    used = cache(None, key="used")
    (temporary / "canvases-killed-3x16-10").write_bytes(b"\0")
    (temporary / "something").write_bytes(b"")
    cache(None, key="new")
    assert {path.name.split("-")[1] for path in temporary.glob("canvases-*")} == {"used"}
    assert (temporary / "something").exists()
    used.put(0, CANVAS)


def test_a_deleted_file_and_a_full_disk_only_cost_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cache(tmp_path)
    own.put(0, CANVAS)
    for path in tmp_path.iterdir():
        path.unlink()
    assert own.has(0)
    assert not cache(tmp_path).has(0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(canvas_cache.os, "pwrite", full)
    own.put(1, CANVAS)
    monkeypatch.undo()
    own.put(1, CANVAS)
    assert own.has(0) and not own.has(1)


def test_a_folder_that_cannot_be_written_is_an_error_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be cached in .*file.*--cache-folder"):
        cache(tmp_path / "file")
