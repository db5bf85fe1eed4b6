"""The manifest of a folder of parts: their small columns in a few files, so that a start-up never reads every part.

A segment holds all columns except pictures of up to 1,024 parts, with the size and the time of each part's file. A part
that is missing from its segment, or whose file has changed since, is read itself, so a manifest may be absent, old or
damaged. Segments are written by :meth:`PartFolder.refresh`, which only reads parts that are missing or have changed.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fss.collection import part_io
from fss.core import storage
from fss.core.retry import retry_transient

SEGMENT = 1024  # parts in a segment
GROUP = 512  # parts that are processed as one table, which costs less than a table for each
READERS = 8  # parts read concurrently, which hides the latency of an object store

_INDEX = b"fss.parts"
State = tuple[int, int]
"""Size of a part's file in bytes, and its time of modification in nanoseconds."""


@dataclass(frozen=True, kw_only=True)
class PartFolder:
    """A folder of parts with its manifest."""

    uri: str
    """URI of the folder."""
    manifest_uri: str
    """URI of the folder of the manifest's segments."""
    schema: pa.Schema
    """Schema of the parts."""

    def tables(self, parts: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield each part with a table of some of its columns, in the order of ``parts``.

        Raises:
            ValueError: a part is missing, damaged or has another schema.
        """
        small = set(columns) <= set(self._small_schema.names)
        states = _states(self.uri) if small else {}
        with ThreadPoolExecutor(READERS) as pool:
            for number, names in itertools.groupby(parts, _segment):
                group = list(names)
                kept = self._read_segment(number, columns, states) if small else {}
                missing = [part for part in group if part not in kept]
                read = pool.map(lambda part: part_io.read(self.uri, part, self.schema, columns), missing)
                for part in group:
                    yield part, kept[part] if part in kept else next(read)

    def groups(self, parts: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[list[int], pa.Table]]:
        """Yield some columns of a few hundred parts at a time: the number of rows of each part, and one table.

        Raises:
            ValueError: a part is missing, damaged or has another schema.
        """
        tables = (table.replace_schema_metadata(None) for _, table in self.tables(parts, columns))
        while group := list(itertools.islice(tables, GROUP)):
            yield [table.num_rows for table in group], pa.concat_tables(group).combine_chunks()

    def refresh(self) -> int:
        """Bring the manifest up to date, and return the number of parts that were read.

        Raises:
            ValueError: a part is damaged or has another schema.
        """
        states, count = _states(self.uri), 0
        for number, names in itertools.groupby(sorted(states, key=_number), _segment):
            group, columns = list(names), self._small_schema.names
            kept = set(self._read_segment(number, [], states))
            if len(kept) == len(group):
                continue
            count += len(group) - len(kept)
            tables = dict(self.tables(group, columns))
            rows = [(part, tables[part].num_rows, *states[part]) for part in group]
            table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables.values()])
            self._write_segment(number, table, rows)
        return count

    @property
    def _small_schema(self) -> pa.Schema:
        return pa.schema([field for field in self.schema if field.type != pa.large_binary()])

    def _segment_uri(self, number: int) -> str:
        return storage.join(self.manifest_uri, f"segment-{number:05d}.parquet")

    @retry_transient
    def _read_segment(self, number: int, columns: Sequence[str], states: dict[str, State]) -> dict[str, pa.Table]:
        """Return some columns of the parts of a segment whose files have not changed."""
        fs, path = storage.resolve(self._segment_uri(number))
        try:
            with fs.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
                if file.schema_arrow.remove_metadata() != self._small_schema:
                    return {}
                index = json.loads(file.metadata.metadata[_INDEX])
                table = file.read(columns=list(columns), use_threads=False).select(columns)
        except (FileNotFoundError, pa.ArrowInvalid, KeyError, ValueError):
            return {}
        starts = itertools.accumulate((rows for _, rows, *_ in index), initial=0)
        return {
            part: table.slice(start, rows)
            for (part, rows, *state), start in zip(index, starts, strict=False)
            if states.get(part) == tuple(state)
        }

    def _write_segment(self, number: int, table: pa.Table, index: Sequence[tuple[str, int, int, int]]) -> None:
        sink = pa.BufferOutputStream()
        table = table.replace_schema_metadata({_INDEX: json.dumps(index)})
        pq.write_table(table, sink, compression="zstd", use_dictionary=["format", "error"], write_statistics=False)
        fs, path = storage.resolve(self._segment_uri(number))
        storage.write_atomically(fs, path, sink.getvalue())


def _number(part: str) -> int:
    return int(part.removeprefix("part-"))


def _segment(part: str) -> int:
    return _number(part) // SEGMENT


@retry_transient
def _states(uri: str) -> dict[str, State]:
    """Return the state of every part of a folder, by one listing."""
    fs, path = storage.resolve(uri)
    infos = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    names = ((info.base_name.removesuffix(".parquet"), info) for info in infos if info.extension == "parquet")
    return {name: (info.size, info.mtime_ns) for name, info in names if part_io.is_part(name)}
