"""Find the rows of a collection that can be trained on, from small columns only: no image or mask is decoded."""

import hashlib
from collections import Counter
from collections.abc import Collection as Ids
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.collection.schema import without_error
from fss.core.arrays import Int32, Int64
from fss.core.rng import keyed_uniforms
from fss.episodes.config import SplitConfig
from fss.episodes.mask_split import is_splittable

Rows = Int32


class RowLists:
    """Row numbers of N blocks, in one array."""

    def __init__(self, rows: Sequence[Rows]):
        self._rows = np.concatenate([np.zeros(0, np.int32), *rows])
        self._ends = np.cumsum([0, *map(len, rows)])

    @property
    def counts(self) -> Int64:
        """Number of rows of each block, [N]."""
        return np.diff(self._ends)

    def __getitem__(self, block: int) -> Rows:
        return self._rows[self._ends[block] : self._ends[block + 1]]

    def __iter__(self) -> Iterator[Rows]:
        return (self[block] for block in range(len(self)))

    def __len__(self) -> int:
        return len(self._ends) - 1


@dataclass(frozen=True)
class RowTable:
    """The usable rows of every block, split into training rows and held-out rows.

    A block is what a training shuffles and reads together: 64 rows of a part, or a whole part in a collection whose
    parts have one row group. Row numbers count from the start of the part. The arrays are flat, so that a table is
    small and quick to pickle.
    """

    part_names: tuple[str, ...]
    """Names of the parts, in the collection's order."""
    part_of: Int32
    """Number of each block's part, [N]."""
    bounds: Int32
    """First row of each block, and the row behind its last, [N,2]."""
    train: RowLists
    """Row numbers to train on, for each block."""
    held_out: RowLists
    """Row numbers that are never trained on, for each block."""
    first_slot: Int64
    """Number of rows in all parts before the part of each block, [N]."""
    total: int
    """Number of rows in all parts, usable or not."""
    counts: dict[str, int]
    """Numbers of rows: train, held_out, and by reason those that are excluded: no_mask, not_accepted, too_small."""
    key: str
    """16 hex digits over the image ids of all parts."""

    def part(self, block: int) -> str:
        """Return the name of a block's part."""
        return self.part_names[int(self.part_of[block])]

    def block(self, block: int) -> range:
        """Return all rows of a block."""
        first, stop = self.bounds[block].tolist()
        return range(first, stop)


def scan(
    collection: Collection,
    mask_set: MaskSet,
    split: SplitConfig,
    *,
    accepted: Ids[str] | None = None,
    held_out: float = 0.0,
) -> RowTable:
    """Find the usable rows, which have a mask, are accepted, and show an object large enough to be split.

    Whether a row is held out depends only on its image id, so that all runs agree. If the share is above 0, at least
    one row is held out.

    Args:
        collection: the images.
        mask_set: their masks.
        split: how masks are split, which determines the smallest usable object.
        accepted: ids of the images to use; None uses all.
        held_out: share of the usable rows to hold out.

    Raises:
        ValueError: the mask set lacks parts, or no row is usable.
    """
    parts = tuple(collection.part_names())
    mask_set.require_parts(parts)
    usable, draws, sizes, excluded, key = _read_rows(collection, mask_set, parts, split, accepted, held_out)
    threshold = _threshold(draws, held_out)
    part_of, blocks = _blocks(sizes, collection.block_rows)
    train, held_out_rows = [], []
    for part, block in zip(part_of, blocks, strict=True):
        numbers, draw = usable[part], draws[part]
        inside = (numbers >= block.start) & (numbers < block.stop)
        train.append(numbers[inside & (draw > threshold)])
        held_out_rows.append(numbers[inside & (draw <= threshold)])
    counts = {"train": sum(map(len, train)), "held_out": sum(map(len, held_out_rows))}
    counts |= {name: excluded[name] for name in ("no_mask", "not_accepted", "too_small")}
    if not counts["train"]:
        raise ValueError(f"no image of {collection.uri} can be trained on with mask set {mask_set.name!r}: {counts}")
    return RowTable(
        part_names=parts,
        part_of=np.array(part_of, np.int32),
        bounds=np.array([(block.start, block.stop) for block in blocks], np.int32),
        train=RowLists(train),
        held_out=RowLists(held_out_rows),
        first_slot=np.cumsum([0, *sizes])[part_of],
        total=sum(sizes),
        counts=counts,
        key=key,
    )


def _read_rows(
    collection: Collection,
    mask_set: MaskSet,
    parts: Sequence[str],
    split: SplitConfig,
    accepted: Ids[str] | None,
    held_out: float,
) -> tuple[list[Rows], list[NDArray[np.float64]], list[int], Counter[str], str]:
    """Return of each part its usable rows, their held-out draws and its size; the excluded rows, and a hash of all ids.

    Draws are 0 where no row is held out.
    """
    usable: list[Rows] = []
    draws: list[NDArray[np.float64]] = []
    sizes: list[int] = []
    excluded: Counter[str] = Counter()
    digest = hashlib.sha256()
    groups = zip(
        collection.parts.groups(parts, ["image_id", "height", "width", "error"]),
        mask_set.parts.groups(parts, ["classes", "error"]),
        strict=True,
    )
    for (counts, images), (mask_counts, masks) in groups:
        if counts != mask_counts:
            raise ValueError(
                f"mask set {mask_set.name!r} of {collection.uri} has parts with other rows than the images; make it "
                "again with --overwrite"
            )
        ids: list[str] = images.column("image_id").to_pylist()
        if ids:
            digest.update(("\n" * any(sizes) + "\n".join(ids)).encode())
        rows = _usable_rows(ids, images, masks, split, accepted, excluded)
        draw = np.zeros(len(rows))
        if held_out > 0:
            draw = keyed_uniforms(0, (ids[row] for row in rows), purpose="held_out")
        starts = np.cumsum([0, *counts[:-1]])
        ends = np.searchsorted(rows, starts[1:])
        usable += [(own - start).astype(np.int32) for own, start in zip(np.split(rows, ends), starts, strict=True)]
        draws += np.split(draw, ends)
        sizes += counts
    return usable, draws, sizes, excluded, digest.hexdigest()[:16]


def _blocks(sizes: Sequence[int], rows: int | None) -> tuple[list[int], list[range]]:
    """Return the number of the part of each block, and its rows, for parts of some sizes and blocks of ``rows``."""
    blocks = [
        (part, range(first, min(first + (rows or size), size)))
        for part, size in enumerate(sizes)
        for first in range(0, max(1, size), rows or max(1, size))
    ]
    return [part for part, _ in blocks], [block for _, block in blocks]


def _usable_rows(
    ids: list[str],
    images: pa.Table,
    masks: pa.Table,
    split: SplitConfig,
    accepted: Ids[str] | None,
    excluded: Counter[str],
) -> NDArray[np.int64]:
    """Return the usable rows of a table of images and their masks, and count the others by reason in ``excluded``."""
    sizes = _largest_classes(masks.column("classes"))
    masked = without_error(images) & without_error(masks) & (sizes >= 0)
    height, width = (images.column(name).to_numpy() for name in ("height", "width"))
    chosen = masked.copy()
    if accepted is not None:
        chosen[masked] = [ids[row] in accepted for row in np.flatnonzero(masked)]
    usable = chosen & is_splittable(sizes, height, width, split)
    excluded["no_mask"] += int((~masked).sum())
    excluded["not_accepted"] += int((masked & ~chosen).sum())
    excluded["too_small"] += int((chosen & ~usable).sum())
    return np.flatnonzero(usable)


def _largest_classes(classes: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the pixels of the largest class of each row, int64 [N]; -1 where a row has no class."""
    lists = pa.concat_arrays(classes.chunks) if classes.num_chunks else pa.array([], classes.type)
    largest = np.full(len(lists), -1, np.int64)
    pixels = pc.struct_field(pc.list_flatten(lists), "pixels")
    np.maximum.at(largest, pc.list_parent_indices(lists).to_numpy(), pixels.to_numpy())
    return largest


def _threshold(draws: list[NDArray[np.float64]], share: float) -> float:
    """Return the largest draw for which a row is held out, or -1 to hold out none."""
    all_draws = np.concatenate(draws) if draws else np.zeros(0)
    if share <= 0 or len(all_draws) < 2:
        return -1.0
    return max(share, float(all_draws.min()))
