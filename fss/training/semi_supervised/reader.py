"""A reader of pictures and class maps with a cache of decoded pixels. Threads may share it."""

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
from fss.training.canvas_cache import GIGABYTE

BLOCKS = 16
"""Encoded blocks of each kind to cache; in each step a lane reads one block, or two if it reaches an end."""


class SemanticReader:
    """Reads rows of a collection at the working size of a network."""

    def __init__(self, collection: Collection, table: ClassTable, *, shrink: int = 1, cache_gb: float = 0.0):
        """Create a reader with an empty cache.

        Args:
            collection: the pictures.
            table: maps class ids to class numbers.
            shrink: factor by which the sides of pictures and class maps are divided.
            cache_gb: maximum size of the cache of decoded pixels, in gigabytes.
        """
        self.collection, self.table, self.shrink = collection, table, shrink
        self._limits, self._names = collection.limits, collection.part_names()
        self._free_bytes = cache_gb * GIGABYTE
        self._cache: dict[tuple[str, int, int], NDArray[np.uint8]] = {}
        self._images = functools.lru_cache(BLOCKS)(self._read_images)
        self._masks = functools.lru_cache(BLOCKS)(self._read_masks)

    def image_id(self, part: int, row: int) -> str:
        """Return the id of a picture."""
        columns, number = self._image_row(part, row)
        return str(columns["image_id"][number])

    def picture(self, part: int, row: int) -> NDArray[np.uint8]:
        """Return a picture, uint8 [H,W,3].

        Raises:
            ValueError: it cannot be decoded.
        """
        key = ("", part, row)
        if (pixels := self._cache.get(key)) is None:
            columns, number = self._image_row(part, row)
            image, uri, image_id = (columns[name][number] for name in ("image", "uri", "image_id"))
            data = read_image_bytes(image, uri, self._limits, image_id=image_id)
            pixels = self._store(key, shrink_image(decode_image(data, self._limits), self.shrink))
        return pixels

    def labels(self, masks: MaskSet, part: int, row: int) -> UInt8:
        """Return the class map of a picture in a mask set, uint8 [H,W], 255 ignored.

        Raises:
            ValueError: the picture has no mask in the set.
        """
        key = (masks.name, part, row)
        if (pixels := self._cache.get(key)) is None:
            block, number = self._block(row)
            columns = self._masks(masks, part, block)
            if columns["mask"][number] is None:
                name = self.image_id(part, row)
                raise ValueError(f"image {name} has no mask in {masks.name!r}: {columns['error'][number]}")
            labels = self.table.to_labels(decode_mask(columns["mask"][number]), columns["classes"][number])
            pixels = self._store(key, shrink_labels(labels, self.shrink))
        return pixels

    def _store(self, key: tuple[str, int, int], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._free_bytes >= pixels.nbytes:
            self._free_bytes -= pixels.nbytes
            self._cache[key] = pixels
        return pixels

    def _image_row(self, part: int, row: int) -> tuple[dict[str, list[Any]], int]:
        """Return the columns of the block of a row, and the number of the row in it."""
        block, number = self._block(row)
        return self._images(part, block), number

    def _block(self, row: int) -> tuple[int, int]:
        """Return the block of a row, and the number of the row in it; a block is what ``block_rows`` says."""
        rows = self.collection.block_rows
        return divmod(row, rows) if rows else (0, row)

    def _rows_of(self, block: int) -> slice | None:
        rows = self.collection.block_rows
        return slice(block * rows, (block + 1) * rows) if rows else None

    def _read_images(self, part: int, block: int) -> dict[str, list[Any]]:
        names, rows = ["image_id", "image", "uri"], self._rows_of(block)
        columns = self.collection.read_part(self._names[part], names, rows=rows).to_pydict()
        assert isinstance(columns, dict)
        return columns

    def _read_masks(self, masks: MaskSet, part: int, block: int) -> dict[str, list[Any]]:
        rows = self._rows_of(block)
        columns = masks.read_part(self._names[part], ["mask", "classes", "error"], rows=rows).to_pydict()
        assert isinstance(columns, dict)
        return columns
