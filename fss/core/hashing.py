"""Content hashes of files on a local disk or an object store."""

import hashlib
from pathlib import Path

from fss.core import storage
from fss.core.retry import retry_transient

DIGITS = 16
"""Number of leading hex digits of a SHA-256 that identify a content."""
_CHUNK = 1 << 20


def file_hash(uri: str | Path, what: str = "file") -> str:
    """Return the first 16 hex digits of the SHA-256 of a file's content.

    Args:
        uri: local path or s3:// URI.
        what: the file's role, for the error message.

    Raises:
        ValueError: the file is missing or cannot be read.
    """
    try:
        return file_sha256(uri)[:DIGITS]
    except OSError as error:
        raise ValueError(f"cannot read the {what} {uri} ({error}); give the path of an existing file") from error


@retry_transient
def file_sha256(uri: str | Path) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    filesystem, path = storage.resolve(str(uri))
    digest = hashlib.sha256()
    with storage.open_file(filesystem, path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
