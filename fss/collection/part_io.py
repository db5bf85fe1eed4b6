"""Reading and writing the files of a collection: Parquet parts and small JSON records."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fss.collection.schema import check_table
from fss.core import storage
from fss.core.retry import is_transient, retry_transient
from fss.images.limits import DecodeLimits

_PART = re.compile(r"part-[0-9]{5,9}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def is_name(name: str) -> bool:
    """Tell whether ``name`` may name a mask set or an acceptance: no path, no hidden file."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def check_name(name: str, what: str) -> None:
    """Refuse names that could lead out of the collection."""
    if not is_name(name):
        raise ValueError(
            f"{what} {name!r} is no good name: use up to 64 lower case letters, digits, dots, dashes and underscores, "
            "starting with a letter or digit"
        )


def check_part(part: str) -> None:
    """Refuse anything that is no part name."""
    if not _PART.fullmatch(part):
        raise ValueError(f"{part!r} is no part name; parts are called part-00000, part-00001, ...")


def list_parts(folder: str) -> list[str]:
    """Return the names of the finished parts in ``folder``, sorted by number (one listing)."""
    fs, path = storage.resolve(folder)
    stems = [name.removesuffix(".parquet") for name in storage.list_names(fs, path) if name.endswith(".parquet")]
    return sorted((stem for stem in stems if _PART.fullmatch(stem)), key=lambda stem: int(stem[5:]))


def read(folder: str, part: str, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """Read a part, all columns of ``schema`` or the named ones in their order.

    Raises:
        ValueError: an unknown column, or a part that is missing, damaged or of another schema.
    """
    check_part(part)
    wanted = pa.schema([schema.field(name) for name in _checked(columns, schema)])
    uri = storage.join(folder, f"{part}.parquet")
    fs, path = storage.resolve(uri)
    try:
        table = _read_table(fs, path, wanted.names)
    except FileNotFoundError:
        raise ValueError(f"there is no part {part} in {folder}") from None
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and is_transient(error):
            raise
        raise ValueError(f"{uri} cannot be read: {error}. Delete it and run the job that writes it again.") from error
    check_table(table, wanted, uri)
    return table


def write(folder: str, part: str, schema: pa.Schema, table: pa.Table) -> None:
    """Write a part atomically, after checking it against ``schema``."""
    check_part(part)
    check_table(table, schema, f"{part} for {folder}")
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(None),
        sink,
        compression="NONE",  # nearly all of it is JPEG and PNG
        use_dictionary=False,
        write_statistics=False,
        write_batch_size=8,  # so that a page of large pictures stays far below Parquet's 2 GiB
    )
    fs, path = storage.resolve(storage.join(folder, f"{part}.parquet"))
    storage.write_atomically(fs, path, sink.getvalue())


@retry_transient
def exists(uri: str) -> bool:
    """Tell whether there is a file at ``uri``."""
    fs, path = storage.resolve(uri)
    return bool(fs.get_file_info(path).type == pafs.FileType.File)


@retry_transient
def delete(uri: str) -> None:
    """Delete a file."""
    fs, path = storage.resolve(uri)
    fs.delete_file(path)


def read_json(uri: str) -> dict[str, Any]:
    """Read a JSON record.

    Raises:
        ValueError: the file holds no JSON object.
    """
    try:
        value = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise ValueError(f"{uri} is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{uri} holds a {type(value).__name__}; expected a JSON object")
    return value


def write_json(uri: str, value: Mapping[str, Any]) -> None:
    """Write a JSON record atomically."""
    fs, path = storage.resolve(uri)
    storage.write_atomically(fs, path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@retry_transient
def _read_table(fs: pafs.FileSystem, path: str, names: Sequence[str]) -> pa.Table:
    with fs.open_input_file(path) as stream, pq.ParquetFile(stream, memory_map=False) as file:
        found = set(file.schema_arrow.names)
        return file.read(columns=[name for name in names if name in found], use_threads=False)


def _checked(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    unknown = sorted(set(columns or ()) - set(schema.names))
    if unknown:
        raise ValueError(f"there are no columns {unknown}; the columns are {schema.names}")
    return list(schema.names if columns is None else columns)


def read_image_bytes(image: bytes | None, uri: str, limits: DecodeLimits) -> bytes:
    """Return the bytes of a row's picture.

    A URI may point anywhere, so no more is read than a picture may have: one byte above the limit, and the decoder
    refuses it.

    Args:
        image: the row's bytes; None where the picture is kept by reference.
        uri: where it then is.
        limits: of the collection.

    Raises:
        OSError: the file is missing, cannot be read, or is no regular file.
    """
    return image or storage.read_bytes(uri, limits.max_bytes + 1)
