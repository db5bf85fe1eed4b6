"""Files on a local disk or an object store, behind one small interface.

A URI is a local path, ``file://...`` or ``s3://bucket/key``. Writes are atomic: a reader sees the complete file or none
of it, even if the writer is killed.
"""

import errno
import functools
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pyarrow import NativeFile
from pyarrow import fs as pafs

from fss.core.retry import retry_transient
from fss.core.storage_errors import CHECK_ACCESS, DENIED

MAX_ATTEMPTS = 6  # throttling of an object store is temporary
CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 60.0
# s3:/bucket and s3:bucket would be local folders
_FEW_SLASHES = re.compile("((?:s3|hf|file)(?=:)|[A-Za-z][A-Za-z0-9]+(?=:/)):/?(?!/)(.*)", re.DOTALL)


def is_remote(uri: str) -> bool:
    """Tell whether ``uri`` names an object store."""
    return uri.startswith("s3://")


def resolve(uri: str | Path) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of ``uri`` and the path on it.

    For ``s3://``, ``AWS_ENDPOINT_URL`` and the usual credentials are taken from the environment.

    Raises:
        ValueError: the scheme is neither ``file://`` nor ``s3://``, an ``s3://`` URI has no bucket, or a path begins
            with the home of a user who does not exist, or in a working directory that was deleted.
    """
    text = str(uri)
    if is_remote(text):
        path = text.removeprefix("s3://").strip("/")
        if not path:
            raise ValueError(f"{text!r} names no bucket; write s3://bucket/folder")
        return _s3(os.environ.get("AWS_ENDPOINT_URL"), region()), path
    if "://" in text and not text.startswith("file://"):
        raise ValueError(f"cannot open {text!r}; use a local path, file:// or s3://")
    if scheme := _FEW_SLASHES.match(text):
        raise ValueError(
            f"cannot open {text!r}; two slashes follow a scheme: {scheme[1]}://{scheme[2]} (pathlib.Path makes one of "
            "them; give a string). A local folder of that name is ./" + text
        )
    local = re.match("file://(localhost(?=/))?", text)
    file = decode_path(text[local.end() :]) if local else Path(text)
    try:
        return pafs.LocalFileSystem(), str(file.expanduser().absolute())
    except RuntimeError:
        raise ValueError(
            f"cannot open {text!r}; there is no user {file.parts[0]}, a folder of that name is ./{text}"
        ) from None
    except FileNotFoundError:
        raise ValueError(
            f"cannot open {text!r}, since the working directory was deleted; change into another"
        ) from None


def decode_path(text: str) -> Path:
    """Return the path of a ``file:`` or database URI, whose special characters may be written as ``%20``.

    A text that is not encoded is recognized by the files: of its two readings, the one counts of which more folders
    exist.
    """
    decoded, literal = Path(unquote(text)), Path(text)
    return literal if _existing_folders(literal) > _existing_folders(decoded) else decoded


def _existing_folders(path: Path) -> int:
    return sum(each.exists() for each in (path, *path.parents))


def join(uri: str, *names: str) -> str:
    """Append path names to a URI or a local path."""
    return "/".join([uri.rstrip("/"), *names])


def absolute_uri(uri: str | Path) -> str:
    """Return ``s3://bucket/key`` or an absolute local path, without a trailing slash."""
    _, path = resolve(uri)
    return f"s3://{path}" if is_remote(str(uri)) else path


def real_uri(uri: str | Path) -> str:
    """Return :func:`absolute_uri` without links and ``..``, which is the same for all names of a local file."""
    return absolute_uri(uri) if is_remote(str(uri)) else os.path.realpath(absolute_uri(uri))


def check_access(uri: str | Path) -> None:
    """Make one request, so that a wrong bucket or missing credentials are reported before a job starts.

    Raises:
        ValueError: the object store does not answer or refuses; the message contains its reason.
    """
    if not is_remote(str(uri)):
        return
    _, path = resolve(uri)
    fs = _s3(os.environ.get("AWS_ENDPOINT_URL"), region(), attempts=2)  # a user waits for the answer
    bucket = path.split("/")[0]
    try:
        file_type = _file_type(fs, path)
        if file_type == pafs.FileType.NotFound:
            file_type = _file_type(fs, bucket)
    except OSError as error:
        raise ValueError(f"cannot reach {uri}: {error}. {CHECK_ACCESS}.") from error
    if file_type == pafs.FileType.NotFound:
        raise ValueError(f"cannot reach {uri}: there is no bucket {bucket!r}. Create it or correct the name.")


def check_writable(uri: str | Path) -> None:
    """Check that a folder can be created and written, before any work; of an object store, that the bucket is there.

    Raises:
        ValueError: a file or a link without a target has the folder's name or that of a parent, there is no permission
            to write, the disk is mounted read-only or takes no files, as /proc, or the object store does not answer.
        OSError: the disk is full.
    """
    if is_remote(str(uri)):
        check_access(uri)
        return
    folder = Path(absolute_uri(uri))
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.exists():
        raise ValueError(
            f"cannot write to {uri}: {nearest} is a link to {nearest.readlink()}, which is not there; give another "
            "folder"
        )
    if not nearest.is_dir():
        raise ValueError(f"cannot write to {uri}: {nearest} is a file; give another folder")
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise ValueError(
            f"cannot write to {uri}: {nearest} is on a file system that is mounted read-only; mount it with write "
            "access, or give a folder on another disk"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {uri}: there is no permission to write to {nearest}; give another folder")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except FileNotFoundError:
        raise ValueError(f"cannot write to {uri}: {nearest} takes no files; give another folder") from None


def check_file_writable(uri: str | Path) -> None:
    """Check that a file can be written, before any work; of an object store, that the bucket is there.

    Raises:
        ValueError: there is a folder of that name, or its own folder cannot be written.
    """
    if is_remote(str(uri)):
        check_access(uri)
        return
    file = Path(absolute_uri(uri))
    if file.is_dir():
        raise ValueError(f"cannot write {uri}: there is a folder of that name; give a file")
    check_writable(file.parent)


@retry_transient
def read_bytes(uri: str | Path, limit: int | None = None) -> bytes:
    """Read a file, at most ``limit`` bytes of it.

    Raises:
        OSError: the file is missing, unreadable or not a regular file (reading a pipe or a device may never end).
    """
    fs, path = resolve(uri)
    if isinstance(fs, pafs.LocalFileSystem):  # Python's open also accepts file names that are not valid Unicode
        _check_regular(path)
        with Path(path).open("rb") as file:
            return file.read(-1 if limit is None else limit)
    with open_file(fs, path) as stream:
        size = stream.size()
        return bytes(stream.read(size if limit is None else min(size, limit)))


def may_be_intact(uri: str | Path, error: OSError) -> bool:
    """Tell whether an error is of the object store and not of the file, so that another attempt may succeed."""
    return is_remote(str(uri)) and not isinstance(error, FileNotFoundError) and DENIED not in str(error)


def open_file(fs: pafs.FileSystem, path: str) -> NativeFile:
    """Open a file for reading at any position.

    Raises:
        OSError: the file is missing, unreadable or not a regular file (opening a pipe or a device may never end).
    """
    if isinstance(fs, pafs.LocalFileSystem):
        _check_regular(path)
    return fs.open_input_file(path)


def _check_regular(path: str) -> None:
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


@retry_transient
def write_atomically(fs: pafs.FileSystem, path: str, data: Any) -> None:
    """Write ``data`` (bytes or a buffer) to ``path`` so that a partial file never appears under that name.

    On a local disk: write to a temporary name in the same folder, fsync, rename, fsync the folder. On an object store:
    one upload, which is visible once it is complete.
    """
    if not isinstance(fs, pafs.LocalFileSystem):
        with fs.open_output_stream(path) as stream:
            stream.write(data)
        return
    target = Path(path)
    with _named(path):
        _write_file(target, data)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file in an error that has no name, or that of a temporary file."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None or str(error.filename).endswith(".tmp")
        if unnamed and error.errno is not None:  # without a number, the name would replace the text
            error.filename = path
        raise


def _write_file(target: Path, data: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")  # with the target's name it could be too long
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


def is_there(uri: str | Path) -> bool:
    """Return whether there is a file or a folder at ``uri``; a folder of an object store is there if it has files."""
    return bool(_file_type(*resolve(uri)) != pafs.FileType.NotFound)


@retry_transient
def list_names(fs: pafs.FileSystem, directory: str) -> list[str]:
    """Return the sorted names of the files and folders in ``directory``; empty if it does not exist."""
    selector = pafs.FileSelector(directory, recursive=False, allow_not_found=True)
    return sorted(info.base_name for info in fs.get_file_info(selector))


@retry_transient
def _file_type(fs: pafs.FileSystem, path: str) -> pafs.FileType:
    return fs.get_file_info(path).type


def region() -> str:
    """Return the region of the object store, from the environment."""
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
