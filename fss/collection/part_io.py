"""Reading and writing of the files of a collection: Parquet parts, JSON metadata and referenced images."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fss.collection.schema import NOTES, check_table
from fss.core import storage
from fss.core.retry import is_transient, retry_transient
from fss.images.limits import DecodeLimits

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


def read(folder: str, part: str, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """Read all columns of a part, or some in the given order.

    Args:
        folder: URI of the folder of parts.
        part: name of the part.
        schema: schema of the parts in the folder.
        columns: columns to read; None reads all.

    Raises:
        ValueError: a column is unknown, or the part is missing, damaged or has another schema.
    """
    check_part(part)
    selected = pa.schema([schema.field(name) for name in _check_columns(columns, schema)])
    uri = storage.join(folder, f"{part}.parquet")
    fs, path = storage.resolve(uri)
    try:
        table = _read_table(fs, path, selected.names)
    except FileNotFoundError:
        raise ValueError(f"there is no part {part} in {folder}; run the job that writes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and is_transient(error):
            raise
        raise ValueError(f"{uri} cannot be read: {error}. Delete it and run the job that writes it again.") from error
    check_table(table, selected, uri)
    return table


def write(folder: str, part: str, schema: pa.Schema, table: pa.Table) -> None:
    """Write a part atomically.

    Raises:
        ValueError: the part name is invalid, or the table does not have ``schema``.
    """
    check_part(part)
    check_table(table, schema, f"{part} for {folder}")
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({NOTES: notes} if (notes := (table.schema.metadata or {}).get(NOTES)) else None),
        sink,
        compression="NONE",  # nearly all bytes are JPEG and PNG
        use_dictionary=False,
        write_statistics=False,
        write_batch_size=8,  # keeps a page of large images far below Parquet's limit of 2 GiB
    )
    fs, path = storage.resolve(storage.join(folder, f"{part}.parquet"))
    storage.write_atomically(fs, path, sink.getvalue())


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
    try:
        value = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise ValueError(f"{uri} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{uri} contains a JSON {type(value).__name__}; expected a JSON object")
    return value


def write_json(uri: str, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically."""
    fs, path = storage.resolve(uri)
    storage.write_atomically(fs, path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@retry_transient
def _read_table(fs: pafs.FileSystem, path: str, names: Sequence[str]) -> pa.Table:
    with fs.open_input_file(path) as stream, pq.ParquetFile(stream, memory_map=False) as file:
        present = set(file.schema_arrow.names)
        return file.read(columns=[name for name in names if name in present], use_threads=False)


def _check_columns(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    unknown = sorted(set(columns or ()) - set(schema.names))
    if unknown:
        raise ValueError(f"there are no columns {unknown}; choose from {schema.names}")
    return list(schema.names if columns is None else columns)


def read_image_bytes(image: bytes | None, uri: str, limits: DecodeLimits) -> bytes:
    """Return the encoded image of a row.

    A URI may point to anything, so at most one byte more than the limit is read; the decoder then rejects the image.

    Args:
        image: encoded image of the row; None if it is stored by reference.
        uri: URI to read the image from in that case.
        limits: limits of the collection.

    Raises:
        OSError: the file is missing, unreadable or not a regular file.
    """
    return image or storage.read_bytes(uri, limits.max_bytes + 1)
