"""The listing of a source, stored in its collection: the photograph of every row of every part.

``listings/<name>-<batch>.parquet`` contains a thousand parts, one row group each. The name is that of
:func:`listing_name`. A task reads only the row group of its part, and a resumed job gets the same rows even if the
folder has changed in the meantime.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fss.collection.sources import SourceItem
from fss.core import storage
from fss.core.retry import retry_transient

PARTS_PER_FILE = 1000

_SCHEMA = pa.schema(
    [  # binary, since a file name need not be valid Unicode
        pa.field("relative_path", pa.binary(), nullable=False),
        pa.field("uri", pa.binary(), nullable=False),
        pa.field("mask_uri", pa.binary()),
        pa.field("class_id", pa.int32()),
        pa.field("annotation", pa.large_string()),
        pa.field("mask_error", pa.string()),  # absent from listings of earlier versions, as are all that follow
        pa.field("shard", pa.binary()),
        pa.field("mask_shard", pa.binary()),
        pa.field("image_offset", pa.int64()),
        pa.field("image_size", pa.int64()),
        pa.field("mask_offset", pa.int64()),
        pa.field("mask_size", pa.int64()),
        pa.field("row", pa.int64()),
    ]
)
_NAMES = frozenset(field.name for field in _SCHEMA if pa.types.is_binary(field.type))


def listing_name(index: int, entry: Mapping[str, Any]) -> str:
    """Return the name of the listing of a source, by its index in the collection and its entry there.

    The name of a new entry contains a hash of it, so that two processes that add sources at the same time do not write
    into each other's listing. fss 0.2 wrote no names.
    """
    return str(entry.get("listing_name") or f"{index:05d}")


def write(collection_uri: str, name: str, parts: Sequence[Sequence[SourceItem]]) -> None:
    """Write the listing of a source.

    Args:
        collection_uri: URI of the collection.
        name: name of the source's listing.
        parts: items of each part, in row order.
    """
    for batch, start in enumerate(range(0, len(parts), PARTS_PER_FILE)):
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, _SCHEMA, compression="ZSTD") as writer:
            for part in parts[start : start + PARTS_PER_FILE]:
                writer.write_table(_encode(part), row_group_size=len(part))
        fs, path = storage.resolve(_uri(collection_uri, name, batch))
        storage.write_atomically(fs, path, sink.getvalue())


@retry_transient
def read(collection_uri: str, name: str, number: int) -> list[SourceItem]:
    """Return the items of one part of a source.

    Args:
        collection_uri: URI of the collection.
        name: name of the source's listing.
        number: part number, counted from the first part of the source.

    Raises:
        ValueError: the listing does not have that part.
    """
    batch, group = divmod(number, PARTS_PER_FILE)
    fs, path = storage.resolve(_uri(collection_uri, name, batch))
    with storage.open_file(fs, path) as stream, pq.ParquetFile(stream) as file:
        if group >= file.num_row_groups:
            raise ValueError(f"the listing {name} in {collection_uri} has no part {number}")
        return [_decode(row) for row in file.read_row_group(group).to_pylist()]


def read_all(collection_uri: str, name: str) -> Iterator[SourceItem]:
    """Yield all items of a source, in order."""
    fs, folder = storage.resolve(storage.join(collection_uri, "listings"))
    pattern = re.compile(re.escape(name) + r"-[0-9]{6,}\.parquet")
    for file in filter(pattern.fullmatch, storage.list_names(fs, folder)):
        for row in _rows(fs, f"{folder}/{file}"):
            yield _decode(row)


@retry_transient
def _rows(fs: pafs.FileSystem, path: str) -> list[dict[str, bytes | str | int | None]]:
    with storage.open_file(fs, path) as stream:
        rows: list[dict[str, bytes | str | int | None]] = pq.read_table(stream).to_pylist()
        return rows


def _uri(collection_uri: str, name: str, batch: int) -> str:
    return storage.join(collection_uri, "listings", f"{name}-{batch:06d}.parquet")


def _encode(items: Sequence[SourceItem]) -> pa.Table:
    columns = {name: [getattr(item, name) for item in items] for name in _SCHEMA.names}
    for name in _NAMES:
        columns[name] = [None if value is None else os.fsencode(value) for value in columns[name]]
    return pa.table(columns, schema=_SCHEMA)


def _decode(row: dict[str, bytes | str | int | None]) -> SourceItem:
    values = {key: os.fsdecode(value) if isinstance(value, bytes) else value for key, value in row.items()}
    return SourceItem(**values)  # type: ignore[arg-type]
