"""Checkpoints at rest: a local folder whatever the place they are kept at, and their identity."""

import hashlib
from pathlib import Path

from fss.model_files import local_copy

__all__ = ["checkpoint_hash", "local_copy"]


def checkpoint_hash(folder: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a checkpoint's weights."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
