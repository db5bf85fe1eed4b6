"""Decoded pictures and class maps of a collection, kept while there is room. Threads may share a reader."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.collection.class_map import ClassTable, shrink_image, shrink_labels
from fss.collection.part_io import read_image_bytes
from fss.core.arrays import UInt8
from fss.images.decode import decode_image
from fss.images.mask_codec import decode_mask

GIGABYTE = 1e9
PARTS = 16
"""Encoded parts of each kind to keep: every lane reads one, or passes from one to the next."""


class SemanticReader:
    """Reads rows of a collection at the size that a network works at."""

    def __init__(self, collection: Collection, table: ClassTable, *, shrink: int = 1, cache_gb: float = 0.0):
        """Open a reader.

        Args:
            collection: the pictures.
            table: numbers of the classes.
            shrink: what the sides are divided by.
            cache_gb: decoded pixels to keep, in gigabytes.
        """
        self.collection, self.table, self.shrink = collection, table, shrink
        self._limits, self._names = collection.limits, collection.part_names()
        self._room = cache_gb * GIGABYTE
        self._kept: dict[tuple[str, int, int], NDArray[np.uint8]] = {}
        self._images = functools.lru_cache(PARTS)(self._read_images)
        self._masks = functools.lru_cache(PARTS)(self._read_masks)

    def image_id(self, part: int, row: int) -> str:
        """Return the identity of a picture."""
        return str(self._images(part)["image_id"][row])

    def picture(self, part: int, row: int) -> NDArray[np.uint8]:
        """Return a picture, uint8 [H, W, 3]; ValueError where it cannot be decoded."""
        key = ("", part, row)
        if (found := self._kept.get(key)) is None:
            columns = self._images(part)
            data = read_image_bytes(columns["image"][row], columns["uri"][row], self._limits)
            found = self._keep(key, shrink_image(decode_image(data, self._limits), self.shrink))
        return found

    def labels(self, masks: MaskSet, part: int, row: int) -> UInt8:
        """Return the class map of a picture in a mask set, uint8 [H, W]; ValueError where it has none."""
        key = (masks.name, part, row)
        if (found := self._kept.get(key)) is None:
            columns = self._masks(masks, part)
            if columns["mask"][row] is None:
                name = self.image_id(part, row)
                raise ValueError(f"image {name} has no mask in {masks.name!r}: {columns['error'][row]}")
            labels = self.table.to_labels(decode_mask(columns["mask"][row]), columns["classes"][row])
            found = self._keep(key, shrink_labels(labels, self.shrink))
        return found

    def _keep(self, key: tuple[str, int, int], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._room >= pixels.nbytes:
            self._room -= pixels.nbytes
            self._kept[key] = pixels
        return pixels

    def _read_images(self, part: int) -> dict[str, list[Any]]:
        columns = self.collection.read_part(self._names[part], ["image_id", "image", "uri"]).to_pydict()
        assert isinstance(columns, dict)
        return columns

    def _read_masks(self, masks: MaskSet, part: int) -> dict[str, list[Any]]:
        columns = masks.read_part(self._names[part], ["mask", "classes", "error"]).to_pydict()
        assert isinstance(columns, dict)
        return columns
