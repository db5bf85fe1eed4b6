"""Shards: files that contain many photographs each. A listing reads their tables of contents, many shards at a time."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pyarrow import fs as pafs

from fss.collection.sources.pairing import LISTED
from fss.collection.sources.walk import Tree
from fss.core import storage
from fss.core.printable import printable
from fss.core.retry import retry_transient
from fss.images.decode import pointer_error

T = TypeVar("T")

DAMAGED = "damaged shards"
_READERS = 32  # shards that are listed at a time: hides the latency of an object store
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}


class ShardError(Exception):
    """A shard cannot be listed; the text says why."""


class Shard:
    """An open shard, read by byte ranges. Ranges may be read from several threads."""

    def __init__(self, uri: str):
        """Open a shard.

        Raises:
            OSError: the shard is missing or cannot be read, or the object store does not answer.
        """
        filesystem, path = storage.resolve(uri)
        self.remote = storage.is_remote(uri)
        """Whether the shard lies in an object store."""
        self.file: Any = None
        """Binary file with ``read``, ``seek`` and ``tell``."""
        if isinstance(filesystem, pafs.LocalFileSystem):  # Python's open also accepts names that are not valid Unicode
            self.file = Path(path).open("rb")  # noqa: SIM115  # closed with the shard
            self.size = os.fstat(self.file.fileno()).st_size
        else:
            self.file = retry_transient(storage.open_file)(filesystem, path)
            self.size = retry_transient(self.file.size)()

    @retry_transient
    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, or those up to the end of the shard."""
        if isinstance(self.file, pa.NativeFile):
            size = min(size, self.size - offset)
            return bytes(self.file.read_at(size, offset)) if size > 0 else b""
        return os.pread(self.file.fileno(), size, offset)

    def __enter__(self) -> "Shard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.file.close()


@dataclass(kw_only=True)
class Contents(Generic[T]):
    """What the shards of a source contain."""

    tables: dict[str, T]
    """Table of contents by relative path of a shard, sorted."""
    damages: dict[str, str] = field(default_factory=dict)
    """Reason by relative path of a shard that cannot be read to its end, or not at all."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence on the shards that are not read to the end; empty if there are none."""
        if not self.damages:
            return ()
        some = "; ".join(f"{printable(path)}: {self.damages[path]}" for path in sorted(self.damages)[:LISTED])
        count = len(self.damages)
        return (f"{count} {'shard is' if count == 1 else 'shards are'} left out or not read to the end: {some}",)


def list_contents(tree: Tree, paths: Sequence[str], read: Callable[[Shard], T]) -> Contents[T]:
    """Read the tables of contents of shards; a shard that cannot be listed becomes a reason.

    Args:
        tree: files of the source.
        paths: relative paths of the shards.
        read: returns the table of an open shard, or raises ShardError.

    Raises:
        OSError: the object store does not answer.
    """
    contents: Contents[T] = Contents(tables={})

    @retry_transient
    def read_shard(path: str) -> T | str:
        uri = tree.uris[path]
        try:
            with Shard(uri) as shard:
                start = shard.read_at(0, 64)
                if error := pointer_error(start):
                    return str(error)
                for magic, name in _COMPRESSED.items():
                    if start.startswith(magic):
                        return f"it is compressed with {name}, which has no random access; decompress it"
                return read(shard)
        except ShardError as error:
            return str(error)
        except OSError as error:
            if storage.may_be_intact(uri, error):
                raise
            return f"unreadable: {error.strerror or type(error).__name__}"

    with ThreadPoolExecutor(_READERS) as pool:
        for path, table in zip(paths, pool.map(read_shard, paths), strict=True):
            if isinstance(table, str):
                contents.damages[path] = table
            else:
                contents.tables[path] = table
    return contents


def ignored_with(ignored: Mapping[str, int], contents: Contents[Any]) -> Counter[str]:
    """Return the counts of what is left out, with those of damaged shards."""
    return Counter(ignored) + Counter({DAMAGED: len(contents.damages)})
