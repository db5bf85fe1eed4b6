"""The position and the size of every image of a collection by its id, in compact arrays that pickle without a copy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fss.collection.collection import Collection
from fss.core.arrays import Int64
from fss.core.sorted_ids import SortedIds


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """Positions of images; 50 bytes an image."""

    parts: tuple[str, ...]
    """Names of the parts."""
    starts: Int64
    """Number of images before each part, [parts]."""
    ids: SortedIds
    """Ids of all images."""
    sizes: np.ndarray[tuple[int, int], np.dtype[np.int32]]
    """Height and width of each image in pixels, [N,2]; 0 where they are unknown."""

    @classmethod
    def build(cls, collection: Collection) -> Self:
        """Index a collection."""
        parts = tuple(collection.part_names())
        counts, ids, sizes = [0], [], [np.zeros((0, 2), np.int32)]
        for rows, table in collection.parts.groups(parts, ["image_id", "height", "width"]):
            counts += rows
            ids.append(table.column("image_id").combine_chunks().cast(pa.large_string()))
            sides = [pc.fill_null(table.column(name), 0).to_numpy() for name in ("height", "width")]
            sizes.append(np.stack(sides, 1).astype(np.int32))
        all_ids = pa.concat_arrays(ids) if ids else pa.array([], pa.large_string())
        return cls(parts, np.cumsum(counts)[:-1], SortedIds(all_ids), np.concatenate(sizes))

    def find(self, image_id: str) -> tuple[str, int] | None:
        """Return the part of an image and its row; None if there is no such image."""
        position = self.ids.find(image_id)
        if position is None:
            return None
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.parts[part], position - int(self.starts[part])

    def size(self, image_id: str) -> tuple[int, int]:
        """Return height and width of an image in pixels.

        Raises:
            KeyError: there is no such image.
        """
        position = self.ids.find(image_id)
        if position is None:
            raise KeyError(image_id)
        height, width = self.sizes[position].tolist()
        return height, width
