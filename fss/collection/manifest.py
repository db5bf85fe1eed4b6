"""The manifest of a folder of parts: their small columns in a few files, so that a start-up never reads every part.

Whoever writes a part writes a fragment beside it: its small columns, which are all columns except pictures, as a small
Arrow file. :meth:`PartFolder.refresh` compacts the fragments to segments of up to 1,024 parts each, which hold the size
and the time of each part's file. A part that is in neither, or whose file is newer, is read itself, so a manifest may
be absent, old or damaged, and a job may be killed at any time.

It also holds the SHA-256 that the file of each part had when it was written, for ``fss inspect --verify``, and parts
whose file is gone.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pyarrow import fs as pafs

from fss.collection import part_io
from fss.collection.fragment import decode_fragment, encode_fragment, fragment_hash
from fss.collection.schema import part_number
from fss.collection.segment import (
    Entry,
    State,
    is_whole,
    read_index,
    read_segment,
    segment_number,
    segment_of,
    write_segment,
)
from fss.core import storage
from fss.core.config import config_hash
from fss.core.hashing import file_sha256
from fss.core.retry import retry_transient

GROUP = 512  # parts that are processed as one table, which costs less than a table for each
READERS = 8  # parts read concurrently, which hides the latency of an object store
CHUNK = 16  # fragments that a thread reads in a row, which costs less than a call for each


@dataclass(frozen=True, kw_only=True)
class PartFolder:
    """A folder of parts with its manifest."""

    uri: str
    """URI of the folder."""
    manifest_uri: str
    """URI of the folder of the manifest's segments."""
    fragments_uri: str
    """URI of the folder of the fragments of parts that are in no segment yet."""
    schema: pa.Schema
    """Schema of the parts."""
    hash_changed: bool = False
    """Hash a part again whose file is newer than its record. Else a file of the recorded size counts as the one that
    was written: the ids of photographs contain a hash of their bytes, which readers compare."""

    def tables(self, parts: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield each part with a table of some of its columns, in the order of ``parts``.

        Raises:
            ValueError: a part is missing, damaged or has another schema.
        """
        small = set(columns) <= set(self._small_schema.names)
        states = _states(self.uri, "parquet") if small else {}
        fragments = self._fresh_fragments(states) if small else set()
        with ThreadPoolExecutor(READERS) as pool:
            for number, names in itertools.groupby(parts, segment_of):
                group = list(names)
                kept = self._segment(number, columns, states) if small else {}
                missing = [part for part in group if part not in kept]
                read = self._read_parts(missing, columns, fragments, pool)
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

    def state_hash(self) -> str:
        """Return 16 hex digits over the sizes and times of the files of all parts, by one listing."""
        return config_hash(sorted(_states(self.uri, "parquet").items()))

    def contents(self) -> str:
        """Return 16 hex digits over the SHA-256 of the files of all parts.

        A file that is as it was written has the hash that was recorded then; others are read. Photographs without a
        record, of fss 0.2, have the empty hash.
        """
        states = _states(self.uri, "parquet")
        fragments, entries = self._fresh_fragments(states), {entry.part: entry for entry in self._entries()}

        def part_hash(part: str) -> str:
            if part in fragments and (recorded := fragment_hash(self._read_fragment(part))):
                return recorded
            entry, (size, time) = entries.get(part), states[part]
            if entry and entry.sha256 and entry.size == size and (entry.time == time or not self.hash_changed):
                return entry.sha256
            return self._file_hash(part) if self.hash_changed or (entry and entry.sha256) else ""

        parts = sorted(states, key=part_number)
        with ThreadPoolExecutor(READERS) as pool:
            return config_hash(list(zip(parts, pool.map(part_hash, parts), strict=True)))

    def write(self, part: str, table: pa.Table) -> None:
        """Write a part atomically, and then its fragment.

        Raises:
            ValueError: the part name is invalid, or the table does not have the schema.
        """
        sha256 = part_io.write(self.uri, part, self.schema, table)
        data = encode_fragment(table.select(self._small_schema.names), part, sha256)
        with suppress(OSError):  # the part is complete without it
            storage.write_atomically(*storage.resolve(self._fragment_uri(part)), data)

    def refresh(self) -> int:
        """Bring the manifest up to date, and return the number of parts that were missing or had changed.

        Raises:
            ValueError: a part is damaged or has another schema.
        """
        states, count, columns = _states(self.uri, "parquet"), 0, self._small_schema.names
        fragments, written = self._fresh_fragments(states), set(_states(self.fragments_uri, "arrow"))
        stale = written - fragments
        with ThreadPoolExecutor(READERS) as pool:
            for number, names in itertools.groupby(sorted({*states, *written}, key=part_number), segment_of):
                recorded = list(names)
                group = [part for part in recorded if part in states]
                lost = {part: Entry(part, 0, 0, 0) for part in recorded if part not in states}
                if len(kept := self._segment(number, [], states)) == len(group) and not lost:
                    continue
                count += len(group) - len(kept)
                kept = self._segment(number, columns, states)
                missing = [part for part in group if part not in kept]
                read = dict(zip(missing, self._read_parts(missing, columns, fragments, pool), strict=True))
                tables, before = kept | read, {entry.part: entry for entry in read_index(self.manifest_uri, number)}
                marked = read | {part: self._read_fragment(part) for part in missing if part in stale}
                hashes = {part: _written_hash(marked.get(part), before.get(part), states[part]) for part in group}
                index = [Entry(part, tables[part].num_rows, *states[part], hashes[part]) for part in group]
                if self.hash_changed:
                    unsure = set(missing) - fragments
                    index = [self._checked(entry) if entry.part in unsure else entry for entry in index]
                lost |= {part: entry._replace(rows=0) for part, entry in before.items() if part not in states}
                table = pa.concat_tables(
                    [self._small_schema.empty_table(), *(tables[part].replace_schema_metadata(None) for part in group)]
                )
                write_segment(self.manifest_uri, number, table.combine_chunks(), [*index, *lost.values()])
        if written:
            fs, path = storage.resolve(self.fragments_uri)
            fs.delete_dir_contents(path, missing_dir_ok=True)  # a fragment that has just been written costs a read
        return count

    def lost(self) -> list[str]:
        """Return the names of the parts that were written and whose files are gone, sorted."""
        recorded = {*_states(self.fragments_uri, "arrow"), *(entry.part for entry in self._entries())}
        return sorted(recorded - set(_states(self.uri, "parquet")), key=part_number)

    def check_complete(self) -> None:
        """Refuse a folder that has lost parts.

        Raises:
            ValueError: files of parts are gone.
        """
        if lost := self.lost():
            raise ValueError(
                f"{self.uri} has lost {len(lost)} of its parts ({', '.join(lost[:3])}{', ...' if lost[3:] else ''}): "
                "they were written, and their files are gone. Copy them back, or run the job that writes them again; "
                f"to go on without them, delete {self.manifest_uri} and {self.fragments_uri}"
            )

    def written_hashes(self) -> dict[str, str]:
        """Return the SHA-256 that the file of each part had when it was written, where it is known."""
        found = {entry.part: entry.sha256 for entry in self._entries()}
        for part in _states(self.fragments_uri, "arrow"):
            found[part] = fragment_hash(self._read_fragment(part)) or found.get(part, "")
        return {part: sha256 for part, sha256 in found.items() if sha256}

    def damaged_records(self) -> list[str]:
        """Return the URIs of segments and fragments that are not as they were written."""
        fragments = _names(self.fragments_uri)
        damaged = [
            storage.join(self.fragments_uri, name)
            for name in fragments
            if not part_io.is_part(part := name.removesuffix(".arrow")) or self._read_fragment(part) is None
        ]
        segments = [name for name in _names(self.manifest_uri) if not is_whole(self.manifest_uri, name)]
        return [*damaged, *(storage.join(self.manifest_uri, name) for name in segments)]

    def unrecorded(self) -> list[str]:
        """Return the names of the parts that neither a segment nor a fragment knows, sorted."""
        recorded = {*_states(self.fragments_uri, "arrow"), *(entry.part for entry in self._entries())}
        return sorted(set(_states(self.uri, "parquet")) - recorded, key=part_number)

    def _checked(self, entry: Entry) -> Entry:
        """Return an entry; without the time of its file, so that it never counts, if the file has another hash."""
        replaced = entry.sha256 and self._file_hash(entry.part) != entry.sha256
        return entry._replace(time=0) if replaced else entry

    def _file_hash(self, part: str) -> str:
        return file_sha256(storage.join(self.uri, f"{part}.parquet"))

    @property
    def _small_schema(self) -> pa.Schema:
        return pa.schema([field for field in self.schema if field.type != pa.large_binary()])

    def _fragment_uri(self, part: str) -> str:
        return storage.join(self.fragments_uri, f"{part}.arrow")

    def _fresh_fragments(self, states: Mapping[str, State]) -> set[str]:
        """Return the parts with a fragment that is not older than the part."""
        written = _states(self.fragments_uri, "arrow")
        return {part for part, (_, time) in written.items() if part in states and time >= states[part][1]}

    def _read_parts(
        self, parts: Sequence[str], columns: Sequence[str], fragments: Collection[str], pool: ThreadPoolExecutor
    ) -> Iterator[pa.Table]:
        """Read small columns of some parts in the threads of a pool, in order."""
        size = CHUNK if parts and parts[0] in fragments else 1
        chunks = [parts[start : start + size] for start in range(0, len(parts), size)]
        read = pool.map(lambda chunk: [self._read_part(part, columns, fragments) for part in chunk], chunks)
        return itertools.chain.from_iterable(read)

    def _read_part(self, part: str, columns: Sequence[str], fragments: Collection[str]) -> pa.Table:
        """Read small columns of a part from its fragment, or from the part itself."""
        table = self._read_fragment(part) if part in fragments else None
        return part_io.read(self.uri, part, self.schema, columns) if table is None else table.select(columns)

    def _read_fragment(self, part: str) -> pa.Table | None:
        """Return the small columns in a fragment, with the hash in their metadata; None if it is damaged or gone."""
        try:
            table = decode_fragment(storage.read_bytes(self._fragment_uri(part)), part)
        except OSError:
            return None
        return table if table is not None and table.schema == self._small_schema else None

    def _segment(self, number: int, columns: Sequence[str], states: dict[str, State]) -> dict[str, pa.Table]:
        """Return some columns of the parts of a segment whose files have not changed."""
        return read_segment(self.manifest_uri, number, self._small_schema, columns, states)

    def _entries(self) -> Iterator[Entry]:
        """Yield what the segments say about their parts."""
        numbers = sorted(n for name in _names(self.manifest_uri) if (n := segment_number(name)) is not None)
        with ThreadPoolExecutor(READERS) as pool:
            for entries in pool.map(partial(read_index, self.manifest_uri), numbers):
                yield from entries


def _names(uri: str) -> list[str]:
    """Return the names of what lies in a folder, without files that are being written."""
    return [name for name in storage.list_names(*storage.resolve(uri)) if not name.startswith(".")]


def _written_hash(fragment: pa.Table | None, entry: Entry | None, state: State) -> str:
    """Return the SHA-256 that the file of a part had when it was written; empty if it is not known.

    A damaged part is newer than its fragment, and a copied one has another time than its entry says. Both keep the
    hash; a file of another size than the entry says is another part.
    """
    return fragment_hash(fragment) or (entry.sha256 if entry and entry.size == state[0] else "")


@retry_transient
def _states(uri: str, extension: str) -> dict[str, State]:
    """Return the state of every part of a folder, by one listing."""
    fs, path = storage.resolve(uri)
    infos = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    names = ((info.base_name.removesuffix(f".{extension}"), info) for info in infos if info.extension == extension)
    return {name: (info.size, info.mtime_ns) for name, info in names if part_io.is_part(name)}
