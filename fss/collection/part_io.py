"""Reading and writing of the files of a collection: Parquet parts, JSON metadata and referenced images.

A part consists of row groups of :data:`ROW_GROUP` rows. A reader of some rows reads only the row groups that hold them.
Single rows are read by :mod:`fss.collection.part_rows`.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fss.collection.schema import NOTES, check_table, has_content
from fss.collection.value_ranges import CHECKSUMS, KEY, encode_checksums, encode_ranges, find_ranges
from fss.core import storage, versioned
from fss.core.config import config_hash
from fss.core.json_values import parse_object
from fss.core.printable import printable
from fss.core.retry import is_transient, retry_transient
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

ROW_GROUP = 32
"""Rows of a row group: a photograph's neighbours cost few bytes, and the footer of a part stays small."""

Rows = Sequence[int] | slice
"""Numbers of the rows of a part, in the order of the result; a slice may end behind the last row."""

_SEAL = "checksum"  # key of the checksum of a JSON object
_PART = re.compile(r"part-[0-9]{5,9}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def is_name(name: str) -> bool:
    """Return whether ``name`` is valid for a mask set or an acceptance: no path and no hidden file."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def check_name(name: str, what: str) -> None:
    """Check a name, since an invalid one could point outside the collection.

    Args:
        name: name of a mask set or an acceptance.
        what: role of the name, for the message.

    Raises:
        ValueError: the name is invalid.
    """
    if not is_name(name):
        raise ValueError(
            f"{what} cannot be named {name!r}; use up to 64 lower case letters, digits, dots, dashes and underscores, "
            "starting with a letter or digit"
        )


def is_part(name: str) -> bool:
    """Return whether ``name`` has the form of a part name."""
    return bool(_PART.fullmatch(name))


def check_part(part: str) -> None:
    """Check a part name.

    Raises:
        ValueError: it is not of the form ``part-00000``.
    """
    if not _PART.fullmatch(part):
        raise ValueError(f"{part!r} is not a part name; use part-00000, part-00001, ...")


def list_parts(folder: str) -> list[str]:
    """Return the names of the finished parts in ``folder``, sorted by number (one listing)."""
    fs, path = storage.resolve(folder)
    stems = [name.removesuffix(".parquet") for name in storage.list_names(fs, path) if name.endswith(".parquet")]
    return sorted((stem for stem in stems if _PART.fullmatch(stem)), key=lambda stem: int(stem[5:]))


def read(
    folder: str, part: str, schema: pa.Schema, columns: Sequence[str] | None, rows: Rows | None = None
) -> pa.Table:
    """Read a part, or some of its columns and rows in the given order.

    Args:
        folder: URI of the folder of parts.
        part: name of the part.
        schema: schema of the parts in the folder.
        columns: columns to read; None reads all.
        rows: rows to read; only their row groups are read. None reads all.

    Raises:
        IndexError: the part has fewer rows.
        ValueError: a column is unknown, or the part is missing, damaged or has another schema.
    """
    return _read_checked(folder, part, schema, columns, lambda file, names: _read_rows(file, names, rows))


def _read_checked(
    folder: str,
    part: str,
    schema: pa.Schema,
    columns: Sequence[str] | None,
    read_table: Callable[[pq.ParquetFile, list[str]], pa.Table],
) -> pa.Table:
    check_part(part)
    selected = pa.schema([schema.field(name) for name in _check_columns(columns, schema)])
    uri = storage.join(folder, f"{part}.parquet")
    with explained_errors(folder, part):
        table = _read_file(*storage.resolve(uri), selected.names, read_table)
    check_table(table, selected, uri)
    return table


@contextmanager
def explained_errors(folder: str, part: str) -> Iterator[None]:
    """Raise a ValueError that says what to do if a part is missing or damaged; transient errors pass."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"there is no part {part} in {folder}; run the job that writes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and is_transient(error):
            raise
        text = printable(" ".join(str(error).split()))
        raise ValueError(
            f"{storage.join(folder, f'{part}.parquet')} cannot be read: {text}. Delete it and run the job that writes "
            "it again."
        ) from error


def write(folder: str, part: str, schema: pa.Schema, table: pa.Table) -> str:
    """Write a part atomically, and return the SHA-256 of its file.

    Raises:
        ValueError: the part name is invalid, or the table does not have ``schema``.
    """
    check_part(part)
    check_table(table, schema, f"{part} for {folder}")
    notes = (table.schema.metadata or {}).get(NOTES)
    table = table.replace_schema_metadata({NOTES: notes} if notes else None)
    file = io.BytesIO()
    with pq.ParquetWriter(
        pa.PythonFile(file, "w"),
        table.schema,
        compression="NONE",  # nearly all bytes are JPEG and PNG
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        write_batch_size=8,  # keeps a page of large images far below Parquet's limit of 2 GiB
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
        with file.getbuffer() as written:
            ranges = find_ranges(written, table, ROW_GROUP)
        writer.add_key_value_metadata({KEY: encode_ranges(ranges), CHECKSUMS: encode_checksums(table)})
    with file.getbuffer() as data:
        storage.write_atomically(*storage.resolve(storage.join(folder, f"{part}.parquet")), data)
        return hashlib.sha256(data).hexdigest()


@retry_transient
def exists(uri: str) -> bool:
    """Return whether there is a file at ``uri``."""
    fs, path = storage.resolve(uri)
    return bool(fs.get_file_info(path).type == pafs.FileType.File)


@retry_transient
def delete(uri: str) -> None:
    """Delete a file."""
    fs, path = storage.resolve(uri)
    fs.delete_file(path)


def read_json(uri: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: the file does not contain a JSON object.
    """
    return parse_object(storage.read_bytes(uri), uri)


def write_json(uri: str, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically."""
    storage.write_atomically(*storage.resolve(uri), _json_bytes(value))


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def update_sealed_json(uri: str, change: Callable[[dict[str, Any] | None], dict[str, Any]]) -> dict[str, Any]:
    """Replace a JSON object by what a function makes of it, and return the new one.

    The function gets None if there is no file, and is called again if another process came first. The object has a
    checksum of its content, so that :func:`is_sealed` notices a change by others.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: the file does not contain a JSON object.
    """
    value: dict[str, Any] = {}

    def change_bytes(old: bytes | None) -> bytes:
        nonlocal value
        value = change(None if old is None else _unsealed(parse_object(old, uri)))
        return _json_bytes({**value, _SEAL: config_hash(value)})

    versioned.update(uri, change_bytes)
    return value


def read_sealed_json(uri: str) -> dict[str, Any]:
    """Read the object of :func:`update_sealed_json` without comparing its checksum; errors as of `read_json`."""
    return _unsealed(read_json(uri))


def _unsealed(content: dict[str, Any]) -> dict[str, Any]:
    content.pop(_SEAL, None)
    return content


def has_seal(uri: str) -> bool:
    """Return whether a JSON object has a checksum; fss 0.2 wrote none."""
    return _SEAL in read_json(uri)


def is_sealed(uri: str, keys: Collection[str]) -> bool:
    """Return whether a JSON object with these keys is as :func:`update_sealed_json` wrote it.

    fss 0.2 wrote no checksums.
    """
    content = read_json(uri)
    seal = content.pop(_SEAL, None)
    return content.keys() <= set(keys) and seal in (None, config_hash(content))


@retry_transient
def _read_file(
    fs: pafs.FileSystem,
    path: str,
    names: Sequence[str],
    read_table: Callable[[pq.ParquetFile, list[str]], pa.Table],
) -> pa.Table:
    # An object store gets one request for adjacent columns and row groups, not one for each.
    remote = not isinstance(fs, pafs.LocalFileSystem)
    with storage.open_file(fs, path) as stream, open_parquet(stream, pre_buffer=remote) as file:
        present = set(file.schema_arrow.names)
        return read_table(file, [name for name in names if name in present])


def open_parquet(stream: pa.NativeFile, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file whose pages are compared with their checksums, if it has some, when they are read."""
    return pq.ParquetFile(stream, memory_map=False, page_checksum_verification=True, **options)


def _read_rows(file: pq.ParquetFile, names: list[str], rows: Rows | None) -> pa.Table:
    if rows is None:
        return file.read(columns=names, use_threads=False)
    count = file.metadata.num_rows
    numbers = np.asarray(range(count)[rows] if isinstance(rows, slice) else rows, np.int64)
    starts = row_group_starts(file.metadata)
    groups = _row_groups(starts, numbers)
    table = file.read_row_groups(groups, columns=names, use_threads=False)
    read = np.concatenate([np.arange(0), *(np.arange(starts[group], starts[group + 1]) for group in groups)])
    return table if np.array_equal(read, numbers) else table.take(np.searchsorted(read, numbers))


def row_group_starts(metadata: pq.FileMetaData) -> npt.NDArray[np.int64]:
    """Return the first row of each of G row groups, and the number of rows, int64 [G+1]."""
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.cumsum([0, *sizes])


def _row_groups(starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> list[int]:
    """Return the sorted numbers of the row groups that hold some rows."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < starts[-1]:
        raise IndexError(f"the part has {starts[-1]} rows; rows {rows.min()} to {rows.max()} were asked for")
    return [int(group) for group in np.unique(np.searchsorted(starts, rows, side="right") - 1)]


def _check_columns(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    unknown = sorted(set(columns or ()) - set(schema.names))
    if unknown:
        raise ValueError(f"there are no columns {unknown}; choose from {schema.names}")
    return list(schema.names if columns is None else columns)


def read_image_bytes(image: bytes | None, uri: str, limits: DecodeLimits, *, image_id: str) -> bytes:
    """Return the encoded image of a row, whose id contains a hash of the bytes.

    A URI may point to anything, so at most one byte more than the limit is read; the decoder then rejects the image.

    Args:
        image: encoded image of the row; None if it is stored by reference.
        uri: URI to read the image from in that case.
        limits: limits of the collection.
        image_id: id of the image.

    Raises:
        OSError: the object store does not answer.
        DecodeError: the file is missing or unreadable, or its bytes are not those that were ingested.
    """
    try:
        data = image or storage.read_bytes(uri, limits.max_bytes + 1)
    except OSError as error:
        if storage.may_be_intact(uri, error):
            raise
        raise DecodeError("unreadable", f"{uri}: {error.strerror or error}; bring it back, or ingest again") from error
    if len(data) <= limits.max_bytes and not has_content(image_id, data):
        raise DecodeError("changed", f"the bytes of {uri} are not those that were ingested as {image_id}")
    return data
