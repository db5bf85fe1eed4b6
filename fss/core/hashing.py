"""Content hashes of files, local or in an object store."""

import hashlib
from pathlib import Path

from fss.core import storage

DIGITS = 16
"""Hex digits of a SHA-256 that identify content."""
_CHUNK = 1 << 20


def file_hash(uri: str | Path, what: str = "file") -> str:
    """Return the first 16 hex digits of the SHA-256 of a file's content.

    Args:
        uri: local path or s3:// URI.
        what: the file's role, for the error message.

    Raises:
        ValueError: the file is missing or cannot be read.
    """
    filesystem, path = storage.resolve(str(uri))
    digest = hashlib.sha256()
    try:
        with filesystem.open_input_stream(path) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise ValueError(f"there is no {what} at {uri} ({error}); give the path of a file") from error
    return digest.hexdigest()[:DIGITS]
