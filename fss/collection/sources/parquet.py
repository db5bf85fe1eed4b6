"""Parquet files with a column of encoded images, as Hugging Face stores data sets of images.

The listing reads the footers of the files. A part reads the row groups of its rows, one at a time and up to its last
row, in batches of bounded size.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fss.collection.config import SourceConfig
from fss.collection.sources.base import BINARY_CLASS, Listing, RawItem, SourceItem
from fss.collection.sources.folder import interpret_mask
from fss.collection.sources.mask_meaning import declare_classes
from fss.collection.sources.parquet_columns import Columns, find_columns
from fss.collection.sources.reading import read_pair
from fss.collection.sources.shards import Shard, ShardError, ignored_with, list_contents
from fss.collection.sources.walk import walk
from fss.core import storage
from fss.core.retry import retry_transient
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

# pyarrow ends the process for some damaged descriptions of columns, so only those of row groups are asked for.
# A row group is read as a whole up to this many bytes: one request, and a damaged size of a page asks for no memory. A
# larger one is read in pieces, up to the last row that is needed.
_WHOLE, _BUFFER = 2**24, 2**22
_BATCH = 2**24  # bytes of the rows that are decoded at a time
_ROWS = 64  # most rows of a batch
_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError)

Value = bytes | DecodeError | None


@dataclass(frozen=True, slots=True)
class _Footer:
    """What the listing needs of a file."""

    groups: tuple[tuple[int, int], ...]
    """Rows and bytes of each row group."""
    schema: pa.Schema


def list_items(config: SourceConfig) -> Listing:
    """List the rows of all Parquet files, in the order of the files and rows.

    Raises:
        ValueError: there are no files, or no column of images, or the settings require masks and there are none.
        OSError: the object store does not answer.
    """
    tree = walk(config.path, config.link_roots)
    paths = [path for path in tree.uris if path.lower().endswith(".parquet")]
    if not paths:
        raise ValueError(f"{config.path} has no Parquet files; give the folder that contains them as --source.path")
    contents = list_contents(tree, paths, _read_footer)
    columns: Columns | None = None
    items: list[SourceItem] = []
    without: dict[str, str] = {}
    for path, footer in contents.tables.items():
        try:
            own = find_columns(footer.schema, config)
        except ValueError as error:
            without[path] = str(error)
            continue
        columns = columns or own
        if (own.image, own.mask) != (columns.image, columns.mask):
            without[path] = f"its columns are {own}, but those of the first file are {columns}"
            continue
        items += _items(path, tree.uris[path], footer.groups, own)
    if without and columns is None:
        path, text = next(iter(without.items()))
        raise ValueError(f"{path} in {config.path}: {text}")
    contents.damages.update(without)
    ignored = ignored_with(tree.ignored, contents) + Counter({"other files": len(tree.uris) - len(paths)})
    notes = () if columns is None else columns.notes
    listing = Listing(items=items, ignored=dict(ignored), notes=notes, warnings=contents.warnings)
    if columns is None or columns.mask is None:
        return listing
    classes = dict(enumerate(config.class_names)) if config.meaning == "index" else {BINARY_CLASS: "object"}
    return declare_classes(replace(listing, labelled=True, classes=classes), tree, config)


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read one photograph and its mask; failures are reported in the result."""
    return item_reader([item], config, limits)(item)


def item_reader(
    items: Sequence[SourceItem], config: SourceConfig, limits: DecodeLimits
) -> Callable[[SourceItem], RawItem]:
    """Read the rows of some items, and return a function that gives the photograph and mask of each.

    Raises:
        OSError: the object store does not answer.
    """
    rows: dict[str, dict[int, tuple[Value, Value]]] = defaultdict(dict)
    by_file: dict[str, list[int]] = defaultdict(list)
    for item in items:
        assert item.shard is not None and item.row is not None
        by_file[item.shard].append(item.row)
    for uri, numbers in by_file.items():
        rows[uri] = _read_rows(uri, sorted(numbers), config, limits)

    def read(item: SourceItem) -> RawItem:
        photograph, mask = rows[str(item.shard)][int(str(item.row))]
        if mask is None:
            item = replace(item, mask_uri=None, annotation=None)
        return read_pair(
            item,
            limits,
            lambda: interpret_mask(_given(mask), item, config, limits),
            lambda: _given(photograph),
        )

    return read


def _items(path: str, uri: str, groups: Sequence[tuple[int, int]], columns: Columns) -> Iterator[SourceItem]:
    numbers = ((group, rows, size) for group, (rows, size) in enumerate(groups) for _ in range(rows))
    for row, (group, rows, size) in enumerate(numbers):
        yield SourceItem(
            relative_path=f"{path}/{row}",
            uri=f"{uri}/{row}",
            mask_uri=None if columns.mask is None else f"{uri}/{row}/{columns.mask}",
            shard=uri,
            image_size=max(0, size) // rows,
            row=row,
            row_group=group,
        )


def _given(value: Value) -> bytes:
    if value is None:
        raise DecodeError("no-bytes", "the row has no bytes of an image; a path or an address alone is not opened")
    if isinstance(value, DecodeError):
        raise value
    return value


def _read_footer(shard: Shard) -> _Footer:
    try:
        with pq.ParquetFile(shard.file) as file:
            metadata = file.metadata
            row_groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            groups = tuple((group.num_rows, group.total_byte_size) for group in row_groups)
            rows = sum(count for count, _ in groups)
            schema = file.schema_arrow
    except _ERRORS as error:
        if isinstance(error, OSError) and "AWS Error" in str(error):
            raise
        raise ShardError(f"it is no Parquet file, or its footer is damaged: {_short(error)}") from error
    negative = any(count < 0 for count, _ in groups)
    if negative or not 0 <= rows == metadata.num_rows <= shard.size:  # a photograph has at least one byte
        raise ShardError(f"its footer names {metadata.num_rows} rows in {shard.size} bytes")
    return _Footer(groups, schema)


@retry_transient
def _read_rows(
    uri: str, rows: Sequence[int], config: SourceConfig, limits: DecodeLimits
) -> dict[int, tuple[Value, Value]]:
    """Return photograph and mask of rows of a file, rising numbers; what cannot be read is a reason."""
    found: dict[int, tuple[Value, Value]] = {}
    reason = DecodeError("changed-shard", "the file has changed since it was listed; ingest it into a new collection")
    try:
        with Shard(uri) as shard:
            metadata = pq.read_metadata(shard.file)
            columns = find_columns(metadata.schema.to_arrow_schema(), config)
            row_groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            whole = all(group.total_byte_size <= _WHOLE for group in row_groups)
            file = pq.ParquetFile(shard.file, metadata=metadata, pre_buffer=False, buffer_size=0 if whole else _BUFFER)
            sizes = [group.num_rows for group in row_groups]
            starts = [0, *accumulate(sizes)]
            groups: dict[int, list[int]] = defaultdict(list)
            for row in rows:
                if row < starts[-1]:
                    groups[bisect_right(starts, row) - 1].append(row)
            for group, some in groups.items():
                found.update(_read_group(file, group, starts[group], some, columns, limits))
    except _ERRORS as error:
        if isinstance(error, OSError) and _is_of_store(uri, error):
            raise
        slug = "unreadable" if isinstance(error, OSError) and error.errno else "corrupt"
        reason = DecodeError(slug, f"the file cannot be read: {_short(error)}")
    return {row: found.get(row, (reason, reason)) for row in rows}


def _read_group(
    file: pq.ParquetFile, group: int, start: int, rows: Sequence[int], columns: Columns, limits: DecodeLimits
) -> dict[int, tuple[Value, Value]]:
    """Return photograph and mask of rows of a row group; after damage, the rest of them has the reason."""
    found: dict[int, tuple[Value, Value]] = {}
    reason = DecodeError("corrupt", f"row group {group} of the file ends early")
    metadata = file.metadata.row_group(group)
    mean = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
    wanted, position = set(rows), start
    try:
        batches = file.iter_batches(
            min(_ROWS, max(1, _BATCH // mean)), row_groups=[group], columns=columns.leaves, use_threads=False
        )
        for batch in batches:
            for offset in range(batch.num_rows):
                if position + offset in wanted:
                    found[position + offset] = _row(batch, offset, columns, limits)
            position += batch.num_rows
            if position > rows[-1]:
                break
    except _ERRORS as error:
        if isinstance(error, OSError) and "AWS Error" in str(error):
            raise
        reason = DecodeError("corrupt", f"row group {group} of the file cannot be read: {_short(error)}")
    return {row: found.get(row, (reason, reason)) for row in rows}


def _row(batch: pa.RecordBatch, offset: int, columns: Columns, limits: DecodeLimits) -> tuple[Value, Value]:
    return (
        _value(batch.column(columns.image)[offset], limits),
        None if columns.mask is None else _value(batch.column(columns.mask)[offset], limits),
    )


def _value(scalar: Any, limits: DecodeLimits) -> Value:
    """Return the bytes of a value, unless they are absent or too many."""
    if isinstance(scalar, pa.StructScalar):
        if not scalar.is_valid:
            return None
        scalar = scalar["bytes"]
    if not scalar.is_valid:
        return None
    buffer = scalar.as_buffer()
    if buffer.size > limits.max_bytes:
        return DecodeError("too-many-bytes", f"{buffer.size} bytes in the row; at most {limits.max_bytes} are allowed")
    return bytes(buffer)


def _is_of_store(uri: str, error: OSError) -> bool:
    return "AWS Error" in str(error) and storage.may_be_intact(uri, error)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
