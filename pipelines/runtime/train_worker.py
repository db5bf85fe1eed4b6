"""What every training worker does before its first step and at a checkpoint, whatever it trains."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from fss.core.system import available_cores
from fss.training.few_shot.loop import StepReport
from pipelines.runtime.config import Device

STATE = "loop.pt"
"""File of a checkpoint that holds the training loop."""
PROGRESS = "progress.json"
"""File of a checkpoint that says, for people, how far the training is."""

Report = TypeVar("Report", bound=StepReport, contravariant=True)


class Resumable(Protocol):
    """A training loop whose state can be kept and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the loop needs to continue."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where a saved loop was."""


class Writer(Protocol[Report]):
    """Rank 0's work besides the training."""

    def add(self, report: Report) -> None:
        """Take the report of a step."""

    def save(self) -> None:
        """Report a checkpoint of the present weights."""


def resume(loop: Resumable) -> None:
    """On a worker: continue from the training's last checkpoint, where there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        loop.load_state_dict(torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True))


def run_steps(reports: Iterable[Report], writer: Writer[Report] | None, *, every: int, last: int) -> None:
    """On a worker: train to the last step, with a checkpoint at every ``every`` steps and at the end.

    Args:
        reports: the steps of a training loop; each is made when it is asked for.
        writer: rank 0's; None on all other ranks.
        every: steps between checkpoints.
        last: the last step.
    """
    for report in reports:
        if writer:
            writer.add(report)
        if report.step % every == 0 or report.step == last:
            # A barrier: every rank reports, rank 0 with the checkpoint.
            writer.save() if writer else ray.train.report({})


@contextmanager
def reported_checkpoint(metrics: Mapping[str, float]) -> Iterator[Path]:
    """On rank 0: report what a block writes into a folder as a checkpoint.

    The checkpoint travels to the storage while the training continues.

    Args:
        metrics: the metrics that choose which checkpoints are kept; the block may add to them.
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


def write_state(folder: Path, loop: Resumable, progress: Mapping[str, Any]) -> None:
    """Write into a checkpoint's folder what :func:`resume` continues from, and how far the training is."""
    torch.save(loop.state_dict(), folder / STATE)
    (folder / PROGRESS).write_text(json.dumps(progress))


def share_cores(threads: int | None) -> None:
    """On a worker: let torch use ``threads``; None: this worker's share of its machine's cores.

    Ray gives a worker one thread per logical CPU it reserved; training wants real cores.
    """
    share = max(1, available_cores() // ray.train.get_context().get_local_world_size())
    torch.set_num_threads(threads or share)


def worker_device(device: Device) -> torch.device:
    """Return the device of this worker: its own GPU, or what ``device`` names."""
    return torch.device("mps") if device == "mps" else ray.train.torch.get_device()
