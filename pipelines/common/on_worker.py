"""What every training worker does before its first step, whatever it trains."""

from pathlib import Path
from typing import Any, Protocol

import ray.train
import torch

from pipelines.common.ray_session import available_cores

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


def share_cores(threads: int | None) -> None:
    """On a worker: let torch use ``threads``; None: this worker's share of its machine's cores.

    Ray gives a worker one thread per logical CPU it reserved; training wants real cores.
    """
    share = max(1, available_cores() // ray.train.get_context().get_local_world_size())
    torch.set_num_threads(threads or share)
