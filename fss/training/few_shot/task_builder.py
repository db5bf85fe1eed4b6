"""Build the tasks of any rows of a collection, with caches for encoded blocks and decoded canvases."""

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.tasks import Task, TaskSettings, make_task, read_canvas, read_images, read_masks, table_row
from fss.training.few_shot.usable_rows import RowTable

RowPosition = tuple[int, int]
"""Number of the block, and row within its part."""


class TaskBuilder:
    """Builds tasks from rows of a collection. Call :meth:`load` before threads call :meth:`build`."""

    def __init__(self, collection: Collection, mask_set: MaskSet, rows: RowTable, cache: CanvasCache, blocks: int):
        """Create a builder.

        Args:
            collection: the images.
            mask_set: their masks.
            rows: the usable rows of both.
            cache: cache of decoded canvases; the slot of a row is its index among the rows of all parts.
            blocks: number of encoded blocks of each kind to cache in memory.
        """
        self._rows, self._cache, self._limits = rows, cache, collection.limits
        parts, ranges = rows.parts, rows.blocks
        self._masks = functools.lru_cache(blocks)(lambda block: read_masks(mask_set, parts[block], ranges[block]))
        self._images = functools.lru_cache(blocks)(lambda block: read_images(collection, parts[block], ranges[block]))

    def load(self, positions: Iterable[RowPosition]) -> None:
        """Read the blocks of some rows; images are read only if their canvas is not cached."""
        for block, row in positions:
            self._masks(block)
            if not self._cache.has(self._rows.first_slot[block] + row):
                self._images(block)

    def build(self, position: RowPosition, settings: TaskSettings) -> Task:
        """Build the task of one row."""
        block, row = position
        row_values = table_row(self._masks(block), row - self._rows.blocks[block].start)
        return make_task(row_values, self._canvas(position, row_values["image_id"], settings.size), settings)

    def _canvas(self, position: RowPosition, image_id: str, size: int) -> NDArray[np.uint8]:
        block, row = position
        slot = self._rows.first_slot[block] + row
        canvas = self._cache.get(slot)
        if canvas is None:
            canvas = read_canvas(
                table_row(self._images(block), row - self._rows.blocks[block].start), image_id, size, self._limits
            )
            self._cache.put(slot, canvas)
        return canvas
