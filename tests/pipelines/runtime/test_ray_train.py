"""A training on Ray: its error has what the workers said, and its thread keeps freed memory."""

import ctypes
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train import ControllerError, WorkerGroupError

from fss.core.memory import keep_freed_memory
from pipelines.runtime import ray_train
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_train import fit

SCALE = ScaleConfig(device="cpu", max_failures=0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            WorkerGroupError("a table", {0: OSError("no pictures\n  in sight"), 1: RuntimeError("rank 0 has gone")}),
            "the training 't' failed: OSError: no pictures; RuntimeError: rank 0 has gone",
        ),
        (
            WorkerGroupError("a table", {0: OSError("away"), 1: OSError("away")}),
            "the training 't' failed: OSError: away",
        ),
        (ControllerError(MemoryError()), "the training 't' failed: MemoryError"),
    ],
)
def test_the_error_of_a_training_is_that_of_its_workers(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        def __init__(self, *_: Any, **__: Any) -> None:
            """Take whatever a trainer takes."""

        def _register_sigint_handler(self, controller: Any) -> None:
            """Do nothing."""

        def fit(self) -> None:
            raise error

    monkeypatch.setattr(ray_train, "is_local", lambda: True)
    monkeypatch.setattr(ray_train, "TorchTrainer", Trainer)
    with pytest.raises(RuntimeError) as raised:
        fit(print, {}, name="t", storage_uri=str(tmp_path), scale=SCALE, score="score")
    assert str(raised.value) == message
    assert raised.value.__cause__ is error


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_worker_says_why_it_failed(tmp_path: Path) -> None:
    def worker(settings: dict[str, Any]) -> None:
        raise OSError(f"there are no pictures in {settings['folder']}")

    with pytest.raises(RuntimeError, match=r"^the training 't' failed: OSError: there are no pictures in nowhere$"):
        fit(worker, {"folder": "nowhere"}, name="t", storage_uri=str(tmp_path), scale=SCALE, score="score")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt belongs to Linux")
@pytest.mark.usefixtures("ray_local")
def test_a_thread_of_a_worker_keeps_freed_memory() -> None:
    def page_faults() -> int:
        libc, before = ctypes.CDLL(None), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        block = libc.malloc(1 << 27)
        libc.memset(block, 1, 1 << 27)
        libc.free(block)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def work() -> tuple[bool, int, int]:
        return keep_freed_memory(), page_faults(), page_faults()

    def in_a_thread() -> tuple[bool, int, int]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()

    kept, first, second = ray.get(ray.remote(in_a_thread).remote())
    assert kept
    assert second < 100 < first
