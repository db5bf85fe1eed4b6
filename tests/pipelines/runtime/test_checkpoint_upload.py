"""Checkpoints travel to storage while the training goes on."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime import train_worker
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_train import fit
from pipelines.runtime.train_worker import reported_checkpoint


@pytest.mark.usefixtures("ray_local")
@pytest.mark.slow
def test_training_goes_on_while_checkpoints_travel(tmp_path: Path) -> None:
    def worker(settings: dict[str, Any]) -> None:
        """Report a checkpoint that fails and two that do not, to a storage that waits for the training to go on."""
        went_on, upload, folders = threading.Event(), train_worker._upload, []

        def wait(*arguments: Any, **named: Any) -> Any:
            assert went_on.wait(30), "the training waits for its checkpoint"
            return upload(*arguments, **named)

        train_worker._upload = wait
        with suppress(OSError), reported_checkpoint({"score": 9.0}) as folder:
            folders.append(folder)
            raise OSError
        for score in (1, 2):
            with reported_checkpoint({"score": score}) as folder:
                (folder / "score").write_text(str(score))
                folders.append(folder)
        went_on.set()
        Path(settings["said"]).write_text("\n".join(map(str, folders)))

    settings = {"said": str(tmp_path / "said")}
    result = fit(worker, settings, name="one", storage_uri=str(tmp_path / "runs"), scale=ScaleConfig(), score="score")
    kept = [(checkpoint, metrics["score"]) for checkpoint, metrics in result.best_checkpoints]
    assert [score for _, score in kept] == [1, 2]
    for checkpoint, score in kept:
        with checkpoint.as_directory() as place:
            assert (Path(place) / "score").read_text() == str(score)
    made = (tmp_path / "said").read_text().split()
    assert len(made) == 3 and not [folder for folder in made if Path(folder).exists()]
