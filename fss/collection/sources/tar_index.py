"""The members of a tar file by their headers: names and byte ranges, without the data between the headers.

The standard library parses the headers (ustar, pax, GNU). What it reads goes through a window. On a local disk, the
window holds a header and the small members that follow it. In an object store, where a request takes as long as a few
megabytes, it grows while headers lie close to each other, so that members of up to a megabyte share requests.
"""

import re
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fss.collection.sources.shards import Shard, ShardError
from fss.core.printable import printable

LINKS, SPARSE, OTHER = "links in shards", "sparse files in shards", "devices and pipes in shards"
UNSAFE, HIDDEN, REPLACED = "unsafe names in shards", "hidden files", "members that a later one of their name replaces"
_WINDOW = 2**14  # bytes of a read: a header and the small members that follow it
_LARGEST_WINDOW = 2**23  # bytes of a read of an object store
_NEAR = 2**20  # bytes from header to header below which a request takes longer than the data between them
_LONGEST_HEADER = 2**16  # bytes; a pax header has names and attributes, and a longer one is damage
_LARGEST = 2**62  # bytes of a shard
_PARSE_ERRORS = (tarfile.TarError, ValueError, IndexError, KeyError, OverflowError, RecursionError)
_DRIVE = re.compile("[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of a tar file."""

    offset: int
    """First byte of its data."""
    size: int
    """Bytes of its data."""


@dataclass(kw_only=True)
class TarIndex:
    """The members of a tar file up to its end or its first damage."""

    members: dict[str, Member] = field(default_factory=dict)
    """Member by its name, in the order of the file."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of members left out, by reason."""
    damage: str | None = None
    """What is wrong after the last member."""


def index_tar(shard: Shard) -> TarIndex:
    """Return the members of a tar file.

    Raises:
        ShardError: the file is no tar file.
        OSError: the object store does not answer.
    """
    window = _Window(shard)
    index = TarIndex()
    try:
        archive = tarfile.TarFile(fileobj=window)  # type: ignore[arg-type]  # it only reads, seeks and tells
    except _PARSE_ERRORS as error:
        raise ShardError(f"it is no tar file: {error}") from error
    name, end = "", -1
    try:
        while (info := archive.next()) is not None:
            if info.offset <= end or not 0 <= info.size < _LARGEST:
                raise tarfile.ReadError(f"a size of {info.size} bytes")  # a negative one would read headers for ever
            end, name = info.offset, info.name
            archive.members = []  # type: ignore[attr-defined]  # the archive would keep them all
            _add(index, info)
    except _PARSE_ERRORS as error:
        what = f"it ends within {printable(name)}" if archive.offset > shard.size else f"a header is damaged: {error}"
        index.damage = _damage(what, archive.offset, shard.size)
        return index
    mark = shard.read_at(archive.offset, tarfile.BLOCKSIZE)
    if not mark:
        index.damage = f"it ends without an end mark after {printable(name)}, so members may be missing"
    elif any(mark):
        index.damage = _damage("a header is damaged", archive.offset, shard.size)
    return index


def is_intact(header: bytes, size: int) -> bool:
    """Tell whether the block before the data of a member is still the header of a member of this size."""
    try:
        return tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape").size == size
    except _PARSE_ERRORS:
        return False


def _add(index: TarIndex, info: tarfile.TarInfo) -> None:
    if info.isdir():
        return
    name = _clean(info.name)
    reason = None
    if info.issym() or info.islnk():
        reason = LINKS
    elif info.issparse():
        reason = SPARSE
    elif not info.isreg():
        reason = OTHER
    elif name is None:
        reason = UNSAFE
    elif any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
        reason = HIDDEN
    if reason is not None or name is None:
        index.ignored[reason or UNSAFE] += 1
        return
    if index.members.pop(name, None) is not None:
        index.ignored[REPLACED] += 1  # as in an extracted tar file
    index.members[name] = Member(info.offset_data, info.size)


def _clean(name: str) -> str | None:
    """Return a name without ``./``; None if it is absolute, leads out of the folder or is empty."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    outside = name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in name.replace("\\", "/").split("/")
    return None if outside or not parts or "\0" in name else "/".join(parts)


def _damage(what: str, offset: int, size: int) -> str:
    rest = max(0, size - offset)
    return f"{what} (byte {min(offset, size)}); {rest} bytes after it are not read" if rest else what


class _Window:
    """The bytes of a shard as the parser of headers reads them: a few at a time, at rising positions."""

    def __init__(self, shard: Shard):
        self._shard = shard
        self._position = self._start = 0
        self._bytes = b""
        self._size, self._headers = _WINDOW, 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, *_: Any) -> int:
        self._position = position
        return position

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER or self._position < 0:
            raise tarfile.ReadError(f"a header of {size} bytes")
        if not self._start <= self._position <= self._position + size <= self._start + len(self._bytes):
            self._resize()
            self._start = self._position
            self._bytes = self._shard.read_at(self._position, max(size, self._size))
        self._headers += 1
        data = self._bytes[self._position - self._start :][:size]
        self._position += len(data)
        return data

    def _resize(self) -> None:
        """Double the window of an object store if its headers were close to each other, else begin again."""
        if not self._shard.remote:
            return
        near = self._position - self._start <= _NEAR * self._headers
        self._size = min(2 * self._size, _LARGEST_WINDOW) if near else _WINDOW
        self._headers = 0
