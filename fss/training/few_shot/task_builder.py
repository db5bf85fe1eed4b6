"""Tasks of any rows of a collection, with what was read and decoded kept for the next time."""

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.tasks import Task, TaskSettings, make_task, read_canvas, read_images, read_masks, table_row
from fss.training.few_shot.usable_rows import RowTable

Place = tuple[int, int]
"""Part number, row within the part."""


class TaskBuilder:
    """Makes the tasks of any rows of a collection, and keeps what it has read and decoded."""

    def __init__(self, collection: Collection, mask_set: MaskSet, rows: RowTable, cache: CanvasCache, parts: int):
        """Open a maker.

        Args:
            collection: the photographs.
            mask_set: their masks.
            rows: the scan of both.
            cache: where decoded canvases are kept; a row's slot counts all rows of all parts.
            parts: part tables to keep in memory.
        """
        self._rows, self._cache, self._limits = rows, cache, collection.limits
        self._masks = functools.lru_cache(parts)(lambda part: read_masks(mask_set, rows.parts[part]))
        self._images = functools.lru_cache(parts)(lambda part: read_images(collection, rows.parts[part]))

    def load(self, places: Iterable[Place]) -> None:
        """Read the part tables that the tasks of ``places`` need, pictures only where a canvas is missing."""
        for part, row in places:
            self._masks(part)
            if not self._cache.has(self._rows.first_slot[part] + row):
                self._images(part)

    def make(self, place: Place, settings: TaskSettings) -> Task:
        """Make the task of one row."""
        part, row = place
        record = table_row(self._masks(part), row)
        return make_task(record, self._canvas(place, record["image_id"], settings.size), settings)

    def _canvas(self, place: Place, image_id: str, size: int) -> NDArray[np.uint8]:
        part, row = place
        slot = self._rows.first_slot[part] + row
        canvas = self._cache.get(slot)
        if canvas is None:
            canvas = read_canvas(table_row(self._images(part), row), image_id, size, self._limits)
            self._cache.put(slot, canvas)
        return canvas
