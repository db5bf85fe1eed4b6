"""Build the tasks of any rows of a collection, with caches for part tables and decoded canvases."""

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.tasks import Task, TaskSettings, make_task, read_canvas, read_images, read_masks, table_row
from fss.training.few_shot.usable_rows import RowTable

RowPosition = tuple[int, int]
"""Part number and row within the part."""


class TaskBuilder:
    """Builds tasks from rows of a collection. Call :meth:`load` before threads call :meth:`build`."""

    def __init__(self, collection: Collection, mask_set: MaskSet, rows: RowTable, cache: CanvasCache, parts: int):
        """Create a builder.

        Args:
            collection: the images.
            mask_set: their masks.
            rows: the usable rows of both.
            cache: cache of decoded canvases; the slot of a row is its index among the rows of all parts.
            parts: number of part tables of each kind to cache in memory.
        """
        self._rows, self._cache, self._limits = rows, cache, collection.limits
        self._masks = functools.lru_cache(parts)(lambda part: read_masks(mask_set, rows.parts[part]))
        self._images = functools.lru_cache(parts)(lambda part: read_images(collection, rows.parts[part]))

    def load(self, positions: Iterable[RowPosition]) -> None:
        """Read the part tables for some rows; images are read only if their canvas is not cached."""
        for part, row in positions:
            self._masks(part)
            if not self._cache.has(self._rows.first_slot[part] + row):
                self._images(part)

    def build(self, position: RowPosition, settings: TaskSettings) -> Task:
        """Build the task of one row."""
        part, row = position
        row_values = table_row(self._masks(part), row)
        return make_task(row_values, self._canvas(position, row_values["image_id"], settings.size), settings)

    def _canvas(self, position: RowPosition, image_id: str, size: int) -> NDArray[np.uint8]:
        part, row = position
        slot = self._rows.first_slot[part] + row
        canvas = self._cache.get(slot)
        if canvas is None:
            canvas = read_canvas(table_row(self._images(part), row), image_id, size, self._limits)
            self._cache.put(slot, canvas)
        return canvas
