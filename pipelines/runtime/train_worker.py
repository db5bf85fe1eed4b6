"""What every training worker does before its first step and at a checkpoint, whatever it trains."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from pipelines.runtime.ray_session import available_cores

STATE = "loop.pt"
"""File of a checkpoint that holds the training loop."""


class Resumable(Protocol):
    """A training loop that can be put where it was."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved loop was."""


def resume(loop: Resumable) -> None:
    """On a worker: go on from the training's last checkpoint, where there is one; its file ``STATE`` holds the loop."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        loop.load_state_dict(torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True))


@contextmanager
def reported_checkpoint(metrics: Mapping[str, float]) -> Iterator[Path]:
    """On rank 0: report what a block writes into a folder as the checkpoint; it travels while the training goes on.

    Args:
        metrics: that choose which checkpoints are kept; may be filled within the block.
    """
    # On the block's end the folder is still on its way: Ray deletes it when it has arrived.
    folder = Path(tempfile.mkdtemp(prefix="fss-checkpoint-"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        raise
    ray.train.report(
        dict(metrics),
        checkpoint=Checkpoint.from_directory(str(folder)),
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )


def share_cores(threads: int | None) -> None:
    """On a worker: let torch use ``threads``; None: this worker's share of its machine's cores.

    Ray gives a worker one thread per logical CPU it reserved; training wants real cores.
    """
    share = max(1, available_cores() // ray.train.get_context().get_local_world_size())
    torch.set_num_threads(threads or share)
