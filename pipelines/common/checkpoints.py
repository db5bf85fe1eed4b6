"""Checkpoints at rest: a local folder whatever the place they are kept at, and their identity."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs as pafs

from fss.collection import files
from fss.models.checkpoint import read_description


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Give a checkpoint's folder as a local one for the length of a block; object stores are copied.

    Raises:
        ValueError: there is no checkpoint.
    """
    filesystem, path = files.resolve(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        read_description(path)
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        pafs.copy_files(path, folder, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
        read_description(folder)
        yield Path(folder)


def checkpoint_hash(folder: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a checkpoint's weights."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
