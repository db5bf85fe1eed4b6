"""Build the tasks of any rows of a collection: a reader of encoded rows, and a builder that decodes them anywhere."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fss.collection import Collection, MaskSet
from fss.episodes.episode import RawEpisodes
from fss.images.limits import DecodeLimits
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.tasks import (
    Task,
    TaskSettings,
    collate,
    make_task,
    read_canvas,
    read_images,
    read_masks,
    table_row,
)
from fss.training.few_shot.usable_rows import RowTable

RowPosition = tuple[int, int]
"""Number of the block, and row within its part."""


class EncodedRow(NamedTuple):
    """What the task of a row is built from."""

    slot: int
    """Slot of its canvas in the cache."""
    mask_row: dict[str, Any]
    """Encoded mask, classes and image id."""
    image_row: dict[str, Any] | None
    """Encoded image; None if its canvas was cached when the row was read."""
    settings: TaskSettings
    """Settings of the task."""
    group: int
    """Number of adjacent rows of a step that lend each other distractors and the photographs of collages."""


class RowReader:
    """Reads rows of a collection, with caches for the encoded blocks that are being read."""

    def __init__(self, collection: Collection, mask_set: MaskSet, rows: RowTable, cache: CanvasCache, blocks: int):
        """Create a reader.

        Args:
            collection: the images.
            mask_set: their masks.
            rows: the usable rows of both.
            cache: cache of decoded canvases; the slot of a row is its index among the rows of all parts.
            blocks: number of encoded blocks of each kind to cache in memory.
        """
        self._rows, self._cache = rows, cache
        self._masks = functools.lru_cache(blocks)(
            lambda block: read_masks(mask_set, rows.part(block), rows.block(block))
        )
        self._images = functools.lru_cache(blocks)(
            lambda block: read_images(collection, rows.part(block), rows.block(block))
        )

    def read(self, positions: Iterable[RowPosition], settings: TaskSettings, group: int) -> list[EncodedRow]:
        """Read some rows; images are read only if their canvas is not cached."""
        encoded = []
        for block, row in positions:
            slot, number = int(self._rows.first_slot[block]) + row, row - self._rows.block(block).start
            image_row = None if self._cache.has(slot) else table_row(self._images(block), number)
            encoded.append(EncodedRow(slot, table_row(self._masks(block), number), image_row, settings, group))
        return encoded


@dataclass(frozen=True)
class TaskBuilder:
    """Builds tasks from encoded rows, in any thread or process."""

    cache: CanvasCache
    """Cache of decoded canvases."""
    limits: DecodeLimits
    """Limits of the collection."""

    def build(self, row: EncodedRow) -> Task:
        """Build the task of one row."""
        canvas = self.cache.get(row.slot)
        if canvas is None:
            assert row.image_row is not None, "a canvas that was cached stays cached"
            canvas = read_canvas(row.image_row, row.mask_row["image_id"], row.settings, self.limits)
            self.cache.put(row.slot, canvas)
        return make_task(row.mask_row, canvas, row.settings)

    def collate(self, rows: Sequence[EncodedRow], tasks: Sequence[Task]) -> RawEpisodes:
        """Stack the tasks of a step."""
        return collate(tasks, rows[0].group)
