"""Near-duplicates: photographs that repeat another one of their collection, or of other collections.

Copies that were scaled, compressed, turned or mirrored are found by their perceptual hashes. A dropped photograph stays
as a row with the reason ``near-duplicate``, so that no row moves and no job reads it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa

from fss.collection.collection import Collection
from fss.collection.config import DUPLICATE_DISTANCE
from fss.collection.hashes import make_hashes, read_hashes
from fss.collection.mask_set import TRUTH, MaskSet
from fss.collection.near_pairs import find_originals
from fss.collection.schema import (
    IMAGE_SCHEMA,
    image_table,
    mask_table,
    part_number,
    read_notes,
    with_notes,
    without_error,
)
from fss.core.arrays import Int64
from fss.images.mask_codec import mask_row
from fss.images.perceptual_hash import Hashes

REASON = "near-duplicate"
_THREADS = 4  # parts that are written again at a time


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """A photograph that repeats another one."""

    part: str
    """Part of the photograph."""
    row: int
    """Row of the photograph in its part."""
    uri: str
    """URI of the photograph."""
    original: str
    """URI of the photograph that it repeats, which comes first."""
    distance: int
    """Number of bits in which their hashes differ."""


@dataclass(frozen=True, kw_only=True)
class DropDuplicates:
    """Settings of an ingest that quarantines near-duplicates."""

    distance: int = DUPLICATE_DISTANCE
    """Largest number of bits in which the hashes of near-duplicates differ."""
    distinct_from: tuple[str, ...] = ()
    """URIs of other collections whose photographs must not be repeated."""

    def run(self, collection: Collection, *, first_part: int) -> None:
        """Quarantine the near-duplicates from a part on; all photographs of earlier parts stay."""
        others = [Collection.open(uri) for uri in self.distinct_from]
        duplicates = find_duplicates(collection, distance=self.distance, distinct_from=others, first_part=first_part)
        drop_duplicates(collection, duplicates)


def find_duplicates(
    collection: Collection,
    *,
    distance: int = DUPLICATE_DISTANCE,
    distinct_from: Sequence[Collection] = (),
    first_part: int = 0,
) -> list[Duplicate]:
    """Return the photographs that repeat an earlier one, or one of other collections, in the order of the rows.

    Hashes that are missing are computed first. Unusable photographs repeat nothing.

    Args:
        collection: collection to search.
        distance: largest number of bits in which near-duplicates differ.
        distinct_from: other collections whose photographs come first.
        first_part: number of the first part to search; photographs of earlier parts repeat nothing.

    Raises:
        ValueError: a part is damaged, or the distance is not allowed.
    """
    others, own = [_Photographs.read(each) for each in distinct_from], _Photographs.read(collection)
    before = sum(len(each.rows) for each in others)
    early = sum(part_number(part) < first_part for part in own.parts)
    hashes = np.concatenate([each.hashes for each in (*others, own)])
    uris = pa.chunked_array([chunk for each in (*others, own) for chunk in each.uris.chunks], pa.string())
    kept = before + int(np.searchsorted(own.rows, own.starts[early]))
    originals, distances = find_originals(hashes, distance=distance, kept=kept)
    duplicates = []
    for position in np.flatnonzero(originals >= 0).tolist():
        part, row = own.position(position - before)
        duplicates.append(
            Duplicate(
                part=part,
                row=row,
                uri=uris[position].as_py(),
                original=uris[int(originals[position])].as_py(),
                distance=int(distances[position]),
            )
        )
    return duplicates


def drop_duplicates(collection: Collection, duplicates: Sequence[Duplicate]) -> None:
    """Quarantine photographs with the reason ``near-duplicate``; their bytes and masks are removed.

    May be repeated if it is interrupted.

    Raises:
        ValueError: a mask set other than the ground truth has masks of their parts already.
    """
    by_part: dict[str, dict[int, str]] = {}
    for each in duplicates:
        text = f"{REASON}: of {each.original}, at a distance of {each.distance} bits"
        by_part.setdefault(each.part, {})[each.row] = text
    names = collection.mask_set_names()
    for name in names:
        if name != TRUTH and (common := sorted(collection.mask_set(name).finished_parts() & set(by_part))):
            raise ValueError(
                f"the mask set {name!r} has masks of {len(common)} parts with near-duplicates, such as {common[0]}, "
                "already; drop near-duplicates before masks are made, or ingest into a new collection with "
                "--drop-duplicates"
            )
    truth = collection.mask_set(TRUTH) if TRUTH in names else None
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(partial(_drop, collection, truth), by_part, by_part.values()))


def _drop(collection: Collection, truth: MaskSet | None, part: str, errors: dict[int, str]) -> None:
    """Write a part again; the photographs go last, so that an interrupted drop is repeated."""
    if truth is not None and part in truth.finished_parts():
        table = truth.read_part(part)
        rows = table.to_pylist()
        for row in errors:
            reason = "no-image: the photograph cannot be used"
            rows[row] = mask_row(rows[row]["image_id"], None, error=reason)
        truth.write_part(part, with_notes(mask_table(rows), read_notes(table)))
    images = collection.read_part(part, IMAGE_SCHEMA.names).to_pylist()
    for row, text in errors.items():
        images[row] |= {"image": None, "error": text}
    collection.write_part(part, image_table(images))


@dataclass(frozen=True, kw_only=True)
class _Photographs:
    """The N usable photographs of a collection that have a hash."""

    parts: Sequence[str]
    """Names of all parts."""
    starts: Int64
    """Number of photographs before each part and after the last, usable or not, int64 [parts+1]."""
    rows: Int64
    """Position among all photographs of the collection, int64 [N]."""
    hashes: Hashes
    """Hashes, uint64 [N]."""
    uris: pa.ChunkedArray
    """URIs, strings [N]."""

    @classmethod
    def read(cls, collection: Collection) -> Self:
        """Read a collection; hashes that are missing are computed first."""
        make_hashes(collection)
        parts, starts, hashes = read_hashes(collection)
        tables = [table for _, table in collection.parts.tables(parts, ["uri", "error"])]
        table = pa.concat_tables([image_table([]).select(["uri", "error"]), *tables])
        usable = without_error(table) & (hashes != 0)
        uris = table.column("uri").filter(pa.array(usable))
        return cls(parts=parts, starts=starts, rows=np.flatnonzero(usable), hashes=hashes[usable], uris=uris)

    def position(self, index: int) -> tuple[str, int]:
        """Return the part of a photograph and its row."""
        row = int(self.rows[index])
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part], row - int(self.starts[part])
