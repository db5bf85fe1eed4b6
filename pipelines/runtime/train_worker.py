"""Parts of a training worker that do not depend on the model: resume, checkpoints, threads and device."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from fss.core import storage
from fss.core.system import available_cores
from fss.core.temporary import owned_prefix
from fss.models.checkpoint import read_description
from fss.models.weights.pair import check_pair, read_pair
from fss.models.weights.reading import open_weights
from pipelines.runtime.config import Device
from pipelines.runtime.steps import STATE, Resumable, save_state

FLUSH_S = 5.0
"""Seconds that the end of a worker waits for MLflow; the driver sends what is left."""
PROGRESS = "progress.json"
"""File of a checkpoint with its step and scores in readable form."""


def resume(loop: Resumable, *, model: str | None = None) -> dict[str, Any]:
    """On a worker: resume from the last checkpoint of the training, and return the description of its network.

    Args:
        loop: the loop.
        model: folder in the checkpoint with the network; its frozen tensors are not in the state of the loop.

    Returns:
        The JSON of the network; empty if there is no checkpoint, or no ``model``.
    """
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return {}
    with checkpoint.as_directory() as folder:
        return restore(loop, Path(folder), model=model)


def restore(loop: Resumable, folder: Path, *, model: str | None = None) -> dict[str, Any]:
    """Restore a loop from the local folder of a checkpoint; arguments and result as in :func:`resume`.

    Raises:
        ValueError: the checkpoint is damaged, or is of another network.
    """
    state, description = open_weights(folder / STATE).content, dict[str, Any]()
    if model is not None:
        description, weights = read_pair(str(folder / model), lambda: read_description(folder / model))
        check_pair(description, weights.sha256, str(folder / model))
        state["model"] = {**weights.content, **state["model"]}
    loop.load_state_dict(state)
    return description


@contextmanager
def reported_checkpoint(metrics: Mapping[str, float]) -> Iterator[Path]:
    """On rank 0: yield a folder, and report its files as a checkpoint after the block.

    The checkpoint is uploaded while the training continues.

    Args:
        metrics: metrics that select the checkpoints to keep; the block may add to them.
    """
    # No temporary-directory context: the upload is asynchronous, and Ray deletes the folder after it.
    folder = Path(tempfile.mkdtemp(prefix=owned_prefix("checkpoint")))
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
        checkpoint_upload_fn=partial(_upload, ray.train.get_context().get_storage()),
    )


def _upload(target: Any, checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Copy the files of a checkpoint into the folder ``name`` of a training's storage; on a disk, they are synced."""
    folder, path = Path(checkpoint.path), f"{target.experiment_fs_path}/{name}"
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        relative = file.relative_to(folder).as_posix()
        storage.write_atomically(target.storage_filesystem, f"{path}/{relative}", file.read_bytes())
    return Checkpoint(path=path, filesystem=target.storage_filesystem)


def write_state(folder: Path, loop: Resumable, progress: Mapping[str, Any]) -> None:
    """Write the state for :func:`resume` and the readable progress into the folder of a checkpoint."""
    save_state(str(folder), loop)
    storage.write_atomically(*storage.resolve(folder / PROGRESS), json.dumps(progress).encode())


def share_cores(threads: int | None) -> None:
    """On a worker: set the number of torch's threads; None uses this worker's share of the machine's cores.

    Ray's default is one thread per reserved logical CPU, which may be fewer than the cores.
    """
    share = max(1, available_cores() // ray.train.get_context().get_local_world_size())
    torch.set_num_threads(threads or share)


def worker_device(device: Device) -> torch.device:
    """Return the torch device of this worker: its own GPU, the CPU, or MPS."""
    return torch.device("mps") if device == "mps" else ray.train.torch.get_device()
