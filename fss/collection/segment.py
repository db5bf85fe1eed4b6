"""A segment of a manifest: the small columns of up to 1,024 parts, and the state of the file of each, in one file."""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fss.collection import part_io
from fss.collection.schema import part_number
from fss.collection.sealed_file import KEY, VALUE, is_intact, seal
from fss.core import storage
from fss.core.retry import is_transient, retry_transient

SEGMENT = 1024  # parts in a segment
T = TypeVar("T")
_INDEX = b"fss.parts"
_NAME = re.compile(r"segment-([0-9]{5,})\.parquet")
State = tuple[int, int]
"""Size of a part's file in bytes, and its time of modification in nanoseconds."""


class Entry(NamedTuple):
    """What a segment says about a part."""

    part: str
    rows: int
    """Rows of it that the segment holds; 0 if its file was gone when the segment was written."""
    size: int
    time: int
    sha256: str = ""
    """SHA-256 of its file; empty if fss 0.2 wrote it."""


def segment_of(part: str) -> int:
    """Return the number of the segment of a part."""
    return part_number(part) // SEGMENT


def segment_number(name: str) -> int | None:
    """Return the number of the segment in a file of this name; None for another file."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def write_segment(folder: str, number: int, table: pa.Table, index: Sequence[Entry]) -> None:
    """Write a segment atomically.

    Args:
        folder: URI of the manifest.
        number: number of the segment.
        table: small columns of its parts, one part after the other.
        index: entry of each part.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({_INDEX: json.dumps(index), KEY: VALUE})
    options = {"use_dictionary": ["format", "error"], "write_statistics": False, "write_page_checksum": True}
    pq.write_table(table, sink, compression="zstd", **options)
    storage.write_atomically(*storage.resolve(_uri(folder, number)), seal(sink.getvalue().to_pybytes()))


def read_index(folder: str, number: int) -> list[Entry]:
    """Return what a segment says about its parts; nothing if it is damaged or gone."""
    return _read(folder, number, lambda _, index: index) or []


def read_segment(
    folder: str, number: int, schema: pa.Schema, columns: Sequence[str], states: Mapping[str, State]
) -> dict[str, pa.Table]:
    """Return some columns of the parts of a segment whose files have not changed; nothing if it is damaged or gone.

    Args:
        folder: URI of the manifest.
        number: number of the segment.
        schema: schema of its columns; a segment of another version counts as damaged.
        columns: columns to read.
        states: states of the files of all parts.
    """

    def tables(file: pq.ParquetFile, index: list[Entry]) -> dict[str, pa.Table]:
        if file.schema_arrow.remove_metadata() != schema:
            return {}
        table = file.read(columns=list(columns), use_threads=False).select(columns)
        starts = itertools.accumulate((entry.rows for entry in index), initial=0)
        return {
            entry.part: table.slice(start, entry.rows)
            for entry, start in zip(index, starts, strict=False)
            if states.get(entry.part) == (entry.size, entry.time)
        }

    # A rewritten segment could give the scores of one picture to another, so its bytes are checked where they count.
    return _read(folder, number, tables, whole=bool(columns)) or {}


def is_whole(folder: str, name: str) -> bool:
    """Return whether a file of a manifest is a segment as it was written, with the number of its parts."""
    number = segment_number(name)
    if number is None:
        return False
    index = _read(folder, number, lambda _, index: index, whole=True)
    return bool(index) and all(segment_of(entry.part) == number for entry in index or ())


@retry_transient
def _read(
    folder: str, number: int, read: Callable[[pq.ParquetFile, list[Entry]], T], *, whole: bool = False
) -> T | None:
    """Return what ``read`` makes of a segment's file and index; None if the segment is damaged or gone.

    Args:
        folder: URI of the manifest.
        number: number of the segment.
        read: gets the open file and its index.
        whole: check all bytes of the file.
    """
    fs, path = storage.resolve(_uri(folder, number))
    try:
        with storage.open_file(fs, path) as stream:
            source = pa.BufferReader(stream.read()) if whole else stream
            if whole and not is_intact(source):
                return None
            source.seek(0)
            with part_io.open_parquet(source) as file:
                return read(file, [Entry(*values) for values in json.loads(file.metadata.metadata[_INDEX])])
    except OSError as error:
        if is_transient(error):
            raise
    except (KeyError, ValueError, TypeError):
        pass
    return None


def _uri(folder: str, number: int) -> str:
    return storage.join(folder, f"segment-{number:05d}.parquet")
