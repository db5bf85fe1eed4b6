"""A training on Ray that fails: its error has what the workers said."""

from pathlib import Path
from typing import Any

import pytest
from ray.train import ControllerError, WorkerGroupError

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
