"""Checkpoints in storage: local copies, hashes, and the weights that trainings start from."""

from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs as pafs

from fss.core import storage
from fss.core.hashing import file_hash
from fss.inference.model_files import local_copy

if TYPE_CHECKING:
    from ray.train import Checkpoint

__all__ = ["absolute_weights", "checkpoint_hash", "local_copy", "publish", "weights_hash"]


def checkpoint_hash(folder: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a checkpoint's weights."""
    return file_hash(folder / "model.safetensors")


def publish(checkpoint: "Checkpoint", folder: str, target: str) -> str:
    """Copy the folder ``folder`` of a checkpoint to the URI ``target``, and return ``target``."""
    filesystem, path = storage.resolve(target)
    filesystem.create_dir(path, recursive=True)
    pafs.copy_files(
        f"{checkpoint.path}/{folder}", path, source_filesystem=checkpoint.filesystem, destination_filesystem=filesystem
    )
    return target


def absolute_weights(weights: str | Path | None) -> str | Path | None:
    """Make the path of initial weights absolute, because workers run in other directories."""
    return weights if weights is None or weights == "pretrained" else storage.absolute_uri(weights)


def weights_hash(weights: str | Path | None) -> dict[str, str]:
    """Return the hash of initial weights as ``{"weights": hash}``, and an empty dict without weights.

    The hash of the library's weights is the word ``pretrained``.

    Raises:
        ValueError: there is no such file.
    """
    if weights is None or weights == "pretrained":
        return {"weights": str(weights)} if weights else {}
    return {"weights": file_hash(weights, "weights file")}
