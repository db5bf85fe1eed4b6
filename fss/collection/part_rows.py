"""Single rows of parts, read at random: a picture or mask costs its own bytes, not its row group.

The footer of a part, which holds the byte ranges of pictures and masks, is read once. Parts that version 0.2 or earlier
wrote hold no ranges; of them, whole row groups are read and the last ones kept.
"""

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cachetools import LRUCache
from numpy.typing import NDArray

from fss.collection import part_io
from fss.collection.schema import check_table
from fss.collection.value_ranges import CHECKSUMS, KEY, decode_checksums, decode_ranges
from fss.core import storage
from fss.core.arrays import Int64
from fss.core.retry import retry_transient

OPEN_PARTS = 128
"""Parts whose footers are kept, and whose files stay open."""
SMALL_GROUPS = 1024
"""Row groups of which the columns without ranges are kept."""
LOCKS = 64
"""Locks of a reader, which its row groups share."""


class PartRows:
    """Reads single rows of the parts of a folder. Thread-safe; threads only wait for each other at equal row groups."""

    def __init__(self, folder: str, schema: pa.Schema, columns: Sequence[str], *, cached_groups: int = 16):
        """Open a reader.

        Args:
            folder: URI of the folder of parts.
            schema: schema of the parts.
            columns: columns to read.
            cached_groups: row groups to keep in memory of parts without ranges, encoded.
        """
        self.folder, self.columns = folder, list(columns)
        self._schema = pa.schema([schema.field(name) for name in columns])
        self._small = [name for name in columns if schema.field(name).type != pa.large_binary()]
        self._parts: LRUCache[str, _OpenPart] = LRUCache(OPEN_PARTS)
        self._groups: LRUCache[tuple[str, int], pa.Table] = LRUCache(cached_groups)
        self._small_groups: LRUCache[tuple[str, int], pa.Table] = LRUCache(SMALL_GROUPS)
        self._lock = threading.Lock()
        self._reading = [threading.Lock() for _ in range(LOCKS)]

    def value(self, part: str, row: int, column: str) -> bytes | None:
        """Return a picture or mask of a row; None if it is null.

        Raises:
            IndexError: the part has fewer rows.
            ValueError: the part is missing, damaged or has another schema.
        """
        file = self._open(part, row)
        if column not in file.ranges:
            return self._cell(self._groups, file, row, self.columns, column)  # type: ignore[no-any-return]
        offset, length = file.ranges[column][row].tolist()
        if length < 0:
            return None
        with part_io.explained_errors(self.folder, part):
            data = _read_at(file.stream, length, offset)
            if column in file.checksums and zlib.crc32(data) != file.checksums[column][row]:
                raise pa.ArrowInvalid(f"the {column} of row {row} does not have the checksum that was written")
            return data

    def other(self, part: str, row: int, column: str) -> Any:
        """Return the value of another column of a row.

        Raises:
            IndexError: the part has fewer rows.
            ValueError: the part is missing, damaged or has another schema.
        """
        file = self._open(part, row)
        if file.ranges:
            return self._cell(self._small_groups, file, row, self._small, column)
        return self._cell(self._groups, file, row, self.columns, column)

    def _cell(
        self, cache: LRUCache[tuple[str, int], pa.Table], file: "_OpenPart", row: int, columns: list[str], column: str
    ) -> Any:
        """Return a value of a row group, which is kept."""
        group = int(np.searchsorted(file.starts, row, side="right")) - 1
        key = file.part, group
        with self._reading[hash(key) % LOCKS]:
            with self._lock:
                table = cache.get(key)
            if table is None:
                with part_io.explained_errors(self.folder, file.part):
                    table = file.read_group(group, columns)
                with self._lock:
                    cache[key] = table
        return table.column(column)[row - int(file.starts[group])].as_py()

    def _open(self, part: str, row: int) -> "_OpenPart":
        with self._lock:
            file = self._parts.get(part)
        file = file or self._open_first(part)
        if not 0 <= row < file.starts[-1]:
            raise IndexError(f"{part} of {self.folder} has {file.starts[-1]} rows; row {row} was asked for")
        return file

    def _open_first(self, part: str) -> "_OpenPart":
        with self._reading[hash(part) % LOCKS]:
            with self._lock:
                file = self._parts.get(part)
            if file is not None:
                return file
            with part_io.explained_errors(self.folder, part):
                file = _open_part(self.folder, part)
            names = [name for name in self._schema.names if name in file.schema.names]
            check_table(file.schema.empty_table().select(names), self._schema, file.uri)
            with self._lock:
                self._parts[part] = file
        return file


@dataclass(frozen=True, kw_only=True)
class _OpenPart:
    """An open part and its footer."""

    part: str
    uri: str
    stream: pa.NativeFile
    metadata: pq.FileMetaData
    schema: pa.Schema
    ranges: dict[str, Int64]
    checksums: dict[str, NDArray[np.uint32]]
    starts: Int64
    """First row of each of G row groups, and the number of rows, int64 [G+1]."""

    @retry_transient
    def read_group(self, group: int, columns: list[str]) -> pa.Table:
        """Read some columns of a row group."""
        remote = storage.is_remote(self.uri)
        file = part_io.open_parquet(self.stream, metadata=self.metadata, pre_buffer=remote)
        return file.read_row_group(group, columns=columns, use_threads=False)


@retry_transient
def _open_part(folder: str, part: str) -> _OpenPart:
    part_io.check_part(part)
    uri = storage.join(folder, f"{part}.parquet")
    fs, path = storage.resolve(uri)
    stream = storage.open_file(fs, path)
    metadata = pq.read_metadata(pa.BufferReader(_read_footer(stream)))
    texts = metadata.metadata or {}
    return _OpenPart(
        part=part,
        uri=uri,
        stream=stream,
        metadata=metadata,
        schema=metadata.schema.to_arrow_schema(),
        ranges=decode_ranges(texts.get(KEY.encode(), b"{}")),
        checksums=decode_checksums(texts.get(CHECKSUMS.encode(), b"{}")),
        starts=part_io.row_group_starts(metadata),
    )


def _read_footer(stream: pa.NativeFile) -> bytes:
    """Return the footer of a Parquet file with its length and magic number, by one read or two.

    Arrow reads 64 KiB at the end of every file, which is more than a picture.
    """
    size = stream.size()
    expected = min(size, max(4096, min(65536, size // 1024)))
    tail = stream.read_at(expected, size - expected)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if expected < length <= size:
        tail = stream.read_at(length - expected, size - length) + tail
    return bytes(tail[-length:])


@retry_transient
def _read_at(stream: pa.NativeFile, length: int, offset: int) -> bytes:
    data = bytes(stream.read_at(length, offset))
    if len(data) < length:
        raise pa.ArrowInvalid(f"the file ends at byte {offset + len(data)}")
    return data
