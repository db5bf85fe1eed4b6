"""Compare-and-swap of small files: a file is replaced only if it is as its writer read it.

On a local disk, writers take turns by a lock (``flock``, also on NFS), which ends with its process. On an object store,
the store compares (``If-Match`` and ``If-None-Match``). boto3 is imported for object stores only.
"""

import errno
import fcntl
import functools
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fss.core import storage

TRIES = 30  # of an update, each of which another writer came before
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_MISSING = ("NoSuchKey", "404")
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # some parallel and user-space file systems


class ConflictError(Exception):
    """Another writer has replaced the file since it was read."""


def read(uri: str) -> tuple[bytes | None, str | None]:
    """Return the content of a file and its version; None and None if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    if not storage.is_remote(uri):
        try:
            data = storage.read_bytes(uri)
        except FileNotFoundError:
            return None, None
        return data, _version(data)
    with _explained(uri) as client:
        try:
            answer = client.get_object(**_key(uri))
        except client.exceptions.ClientError as error:
            if _code(error) in _MISSING:
                return None, None
            raise
        return answer["Body"].read(), str(answer["ETag"])


def write(uri: str, data: bytes, version: str | None) -> str:
    """Write a file if it still has a version, None for no file, and return its new version.

    A file with this content already counts as written.

    Raises:
        ConflictError: it has another one.
        OSError: the file cannot be written.
    """
    if not storage.is_remote(uri):
        with locked(uri) as path:
            if read(uri)[1] not in (version, _version(data)):
                raise ConflictError(uri)
            storage.write_atomically(*storage.resolve(path), data)
        return _version(data)
    with _explained(uri) as client:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            return str(client.put_object(**_key(uri), Body=data, **condition)["ETag"])
        except client.exceptions.ClientError as error:
            if _code(error) not in (*_CONFLICTS, *_MISSING):
                raise
    written, new = read(uri)
    if written == data and new is not None:  # the answer to the first attempt was lost
        return new
    raise ConflictError(uri)


def delete(uri: str, version: str) -> None:
    """Delete a file if it still has a version.

    Raises:
        ConflictError: it has another one.
        OSError: the file cannot be deleted.
    """
    if not storage.is_remote(uri):
        with locked(uri) as path:
            if read(uri)[1] != version:
                raise ConflictError(uri)
            path.unlink()
        return
    with _explained(uri) as client:
        try:
            client.delete_object(**_key(uri), IfMatch=version)
        except client.exceptions.ClientError as error:
            if _code(error) in (*_CONFLICTS, *_MISSING):
                raise ConflictError(uri) from error
            raise


def update(uri: str, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace a file by what a function makes of its content, None for no file, and return the new content.

    The function is called again if another writer came first.

    Raises:
        OSError: the file cannot be read or written, or other writers always came first.
    """
    for attempt in range(TRIES):
        old, version = read(uri)
        new = change(old)
        if new == old:
            return new
        try:
            write(uri, new, version)
        except ConflictError:
            time.sleep(random.uniform(0, min(1, 0.01 * 2**attempt)))
            continue
        return new
    raise OSError(f"{uri} changed during each of {TRIES} updates; find out who else writes it, and run it again")


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def locked(uri: str) -> Iterator[Path]:
    """Yield the path of a local file while no other process is in such a block; the lock leaves no file behind."""
    path = Path(storage.resolve(uri)[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise
                try:
                    yield path  # as good as such a file system allows: the content is compared all the same
                finally:
                    lock.unlink(missing_ok=True)
                return
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), lock.stat()):  # else the writer before has removed it
                    try:
                        yield path
                    finally:
                        lock.unlink()
                    return
        finally:
            os.close(handle)


@contextmanager
def _explained(uri: str) -> Iterator[Any]:
    """Yield the client of an object store, whose errors become an OSError that names the file."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield _client(os.environ.get("AWS_ENDPOINT_URL"), storage.region())
    except (BotoCoreError, ClientError) as error:
        advice = ""
        if isinstance(error, ClientError) and _code(error) in ("NotImplemented", "501"):
            advice = "; the store must support conditional writes (If-Match and If-None-Match): update it"
        raise OSError(f"{uri}: {error}{advice}") from error


@functools.lru_cache(maxsize=8)
def _client(endpoint: str | None, region: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=storage.CONNECT_TIMEOUT_S,
        read_timeout=storage.REQUEST_TIMEOUT_S,
        retries={"mode": "standard", "max_attempts": storage.MAX_ATTEMPTS},
        s3={"addressing_style": "path"} if endpoint else {},
    )
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _key(uri: str) -> dict[str, str]:
    bucket, _, key = storage.resolve(uri)[1].partition("/")
    return {"Bucket": bucket, "Key": key}


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code"))
