"""Division of a source into parts: the photographs of each part, and their order.

Photographs are permuted by a hash of their paths, so that those of a folder are spread over all parts and a training
does not meet one class at a time. The paths alone determine the order, wherever the source lies.

Photographs in shards are permuted in runs of neighbours, so that a part reads a few ranges of a few shards and not each
photograph by itself; the rows of a part are permuted once more. A row group of a Parquet file is such a run, because a
reader has to read all of it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from fss.collection.config import PART_BYTES
from fss.collection.sources import Listing, SourceItem
from fss.core.rng import keyed_order

ROWS = 64
"""Photographs in a part of a small collection."""
PARTS = 1024
"""Number of parts from which on parts hold more than 64 photographs: enough for the workers of a fleet."""
_RUNS = 32  # runs in a part, which come from as many shards: 2 MB each in a part of 64 MiB
_GROUPED_PARTS = 64  # least number of parts, as far as there are row groups, before a part takes several of them
_UNKNOWN_BYTES = 2**16  # of a photograph whose size the listing does not tell


def divide(
    listing: Listing, *, shuffled: bool, part_size: int | None, part_bytes: int = PART_BYTES, others: int = 0
) -> list[list[SourceItem]]:
    """Return the photographs of each part, in the order of its rows.

    Args:
        listing: photographs to divide.
        shuffled: whether to permute them; those that are in random order already stay as they are.
        part_size: number of photographs per part, rounded to whole row groups. None: 64, and more where the collection
            has over 1,024 parts of 64.
        part_bytes: largest size of a part in bytes if ``part_size`` is None; a larger photograph is a part of its own.
            A larger row group is divided in any case.
        others: number of photographs that the collection has already.
    """
    items, shuffled = listing.items, shuffled and not listing.random
    if not items:
        return []
    sizes = [_size(listing, item) for item in items]
    grouped = items[0].row_group is not None
    rows = part_size or max(ROWS, -(-(len(items) + others) // PARTS))
    if grouped:
        runs = list(_row_groups(items, sizes, part_bytes))
        if part_size is None:
            rows = max(rows, min(len(items) // _GROUPED_PARTS, _RUNS * max(map(len, runs))))
    else:
        runs = list(_runs(items, sizes, max(1, rows // _RUNS), part_bytes // _RUNS))
    if shuffled:
        runs = [runs[position] for position in _order([items[run[0]] for run in runs], "ingest.order")]
    units = runs if grouped else [range(row, row + 1) for run in runs for row in run]
    parts = _cut(units, sizes, rows, None if part_size else part_bytes)
    divided = [[items[row] for row in part] for part in parts]
    if shuffled and items[0].shard is not None:
        divided = [[part[row] for row in _order(part, "ingest.rows")] for part in divided]
    return divided


def _size(listing: Listing, item: SourceItem) -> int:
    size = item.image_size if item.image_size is not None else listing.sizes.get(item.uri)
    return _UNKNOWN_BYTES if size is None else size


def _order(items: Sequence[SourceItem], purpose: str) -> list[int]:
    order: list[int] = keyed_order(0, (ascii(item.relative_path) for item in items), purpose=purpose).tolist()
    return order


def _row_groups(items: Sequence[SourceItem], sizes: Sequence[int], most_bytes: int) -> Iterator[range]:
    """Yield the rows of each row group, and those of a large one in pieces."""
    for _, group in groupby(range(len(items)), key=lambda row: (items[row].shard, items[row].row_group)):
        rows = list(group)
        step = max(1, most_bytes // max(1, sizes[rows[0]]))
        yield from (range(first, min(first + step, rows[-1] + 1)) for first in range(rows[0], rows[-1] + 1, step))


def _runs(items: Sequence[SourceItem], sizes: Sequence[int], most: int, most_bytes: int) -> Iterator[range]:
    """Yield runs of neighbours in a shard; files that are no shards are runs of one."""
    first, size = 0, 0
    for row, item in enumerate(items):
        if row > first and (
            item.shard is None
            or item.shard != items[first].shard
            or row - first >= most
            or size + sizes[row] > most_bytes
        ):
            yield range(first, row)
            first, size = row, 0
        size += sizes[row]
    yield range(first, len(items))


def _cut(
    units: Sequence[Sequence[int]], sizes: Sequence[int], most: int, most_bytes: int | None
) -> Iterator[list[int]]:
    """Yield the rows of each part, which takes units while they fit; a larger unit is a part of its own."""
    part: list[int] = []
    size = 0
    for unit in units:
        added = sum(sizes[row] for row in unit)
        if part and (len(part) + len(unit) > most or (most_bytes is not None and size + added > most_bytes)):
            yield part
            part, size = [], 0
        part += unit
        size += added
    yield part
