"""Files on a local disk or an object store, behind one small interface.

A name is either a local path, ``file://...`` or ``s3://bucket/key``. Writes are atomic: a reader sees the whole file or
none of it, whenever the writer is killed.
"""

import errno
import functools
import os
import stat
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs as pafs

from fss.core.retry import retry_transient

MAX_ATTEMPTS = 6  # throttling of an object store passes with patience
CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 60.0


def is_remote(uri: str) -> bool:
    """Tell whether ``uri`` names an object store."""
    return uri.startswith("s3://")


def resolve(uri: str | Path) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of ``uri`` and the path on it.

    ``AWS_ENDPOINT_URL`` is honoured for ``s3://``; credentials come from the environment as usual.

    Raises:
        ValueError: a scheme other than ``file`` and ``s3``, or ``s3://`` without a bucket.
    """
    text = str(uri)
    if is_remote(text):
        path = text.removeprefix("s3://").strip("/")
        if not path:
            raise ValueError(f"{text!r} names no bucket; write s3://bucket/folder")
        return _s3(os.environ.get("AWS_ENDPOINT_URL"), _region()), path
    if "://" in text and not text.startswith("file://"):
        raise ValueError(f"cannot open {text!r}: allowed are local paths, file:// and s3://")
    return pafs.LocalFileSystem(), str(Path(text.removeprefix("file://")).expanduser().absolute())


def join(uri: str, *names: str) -> str:
    """Append path names to a URI or a local path."""
    return "/".join([uri.rstrip("/"), *names])


def absolute_uri(uri: str | Path) -> str:
    """Return ``s3://bucket/key`` or an absolute local path, without a trailing slash."""
    _, path = resolve(uri)
    return f"s3://{path}" if is_remote(str(uri)) else path


def check_access(uri: str | Path) -> None:
    """Make one call, so that a wrong bucket or missing credentials show themselves before a job starts.

    Raises:
        ValueError: the object store does not answer or refuses, with its message.
    """
    if not is_remote(str(uri)):
        return
    _, path = resolve(uri)
    fs = _s3(os.environ.get("AWS_ENDPOINT_URL"), _region(), attempts=2)  # a person waits for the answer
    bucket = path.split("/")[0]
    try:
        found = _type_of(fs, path)
        if found == pafs.FileType.NotFound:
            found = _type_of(fs, bucket)
    except OSError as error:
        raise ValueError(
            f"cannot reach {uri}: {error}. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, "
            "AWS_ENDPOINT_URL and the network."
        ) from error
    if found == pafs.FileType.NotFound:
        raise ValueError(f"cannot reach {uri}: there is no bucket {bucket!r}. Create it or correct the name.")


@retry_transient
def read_bytes(uri: str | Path, limit: int | None = None) -> bytes:
    """Read a file, at most ``limit`` bytes of it.

    Raises:
        OSError: the file is missing, cannot be read, or is no regular file (a pipe or a device has no end).
    """
    fs, path = resolve(uri)
    if isinstance(fs, pafs.LocalFileSystem):  # plain open: also names that are no valid Unicode
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(errno.EINVAL, "is no regular file", path)
        with Path(path).open("rb") as file:
            return file.read(-1 if limit is None else limit)
    with fs.open_input_file(path) as stream:
        size = stream.size()
        return bytes(stream.read(size if limit is None else min(size, limit)))


@retry_transient
def write_atomically(fs: pafs.FileSystem, path: str, data: Any) -> None:
    """Write ``data`` (bytes or a buffer) to ``path`` so that half a file never shows under that name.

    Local: temporary name in the same folder, fsync, rename, fsync of the folder. Object store: one upload, visible when
    complete.
    """
    if not isinstance(fs, pafs.LocalFileSystem):
        with fs.open_output_stream(path) as stream:
            stream.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@retry_transient
def list_names(fs: pafs.FileSystem, directory: str) -> list[str]:
    """Return the sorted names of the files and folders in ``directory``; none where it does not exist."""
    selector = pafs.FileSelector(directory, recursive=False, allow_not_found=True)
    return sorted(PurePosixPath(info.path).name for info in fs.get_file_info(selector))


@retry_transient
def _type_of(fs: pafs.FileSystem, path: str) -> pafs.FileType:
    return fs.get_file_info(path).type


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


@functools.lru_cache(maxsize=8)
def _s3(endpoint: str | None, region: str, attempts: int = MAX_ATTEMPTS) -> pafs.FileSystem:
    settings: dict[str, Any] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        settings = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    return pafs.S3FileSystem(
        region=region,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,
        **settings,
    )
