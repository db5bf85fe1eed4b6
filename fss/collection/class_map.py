"""Class maps for semantic segmentation: index masks of a collection as one class number per pixel, and back.

A class map is uint8 [H, W]: a class number in 0 .. C - 1 per pixel, 255 for ignored pixels.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Mask, UInt8
from fss.images.mask_codec import from_class_map


class ClassTable:
    """Contiguous numbers 0 .. C - 1 for the classes of a collection.

    Number 0 is the background, or the class with id 0 if the collection has one (road in Cityscapes, sky in CamVid).
    The others follow in the order of their ids.
    """

    def __init__(self, class_ids: Iterable[int]):
        """Number the classes.

        Args:
            class_ids: class ids of the collection, such as ``Collection.classes``.

        Raises:
            ValueError: there is no class, or more classes than fit into a byte.
        """
        unique_ids = set(class_ids)
        if not unique_ids:
            raise ValueError("the collection has no classes; semantic segmentation needs a labelled collection")
        self.background = 0 not in unique_ids
        self.ids = tuple(sorted(unique_ids | {0}))
        if len(self.ids) > IGNORE:
            raise ValueError(
                f"semantic segmentation supports at most {IGNORE} classes, got {len(self.ids)}; leave some out"
            )
        self._number = {class_id: number for number, class_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def to_labels(self, mask: Mask, classes: Iterable[Mapping[str, Any]]) -> UInt8:
        """Convert an index mask to a class map, uint8 [H, W].

        Args:
            mask: index mask, uint8 [H, W].
            classes: ``classes`` of the same row.

        Raises:
            ValueError: the mask has a class that the collection lacks.
        """
        table = np.full(256, IGNORE, np.uint8)
        table[0] = 0
        for position, entry in enumerate(classes):
            if entry["id"] not in self._number:
                raise ValueError(
                    f"a mask has class {entry['id']}, but the classes are {list(self.ids)}; add it to the collection"
                )
            table[position + 1] = self._number[entry["id"]]
        return np.asarray(cv2.LUT(mask, table), np.uint8)

    def to_mask(self, labels: UInt8) -> tuple[Mask, list[int]]:
        """Convert a class map, uint8 [H, W], to an index mask and its class ids; the inverse of :meth:`to_labels`."""
        mask, numbers = from_class_map(labels, background=0 if self.background else None)
        return mask, [self.ids[number] for number in numbers]


def shrink_image(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return an image, uint8 [H, W, 3], with both sides divided by ``factor`` by area averaging."""
    if factor == 1:
        return rgb
    size = (max(1, rgb.shape[1] // factor), max(1, rgb.shape[0] // factor))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def shrink_labels(labels: UInt8, factor: int) -> UInt8:
    """Return a class map with both sides divided by ``factor`` by majority vote; a tie takes the smaller number."""
    if factor == 1:
        return labels
    size = (max(1, labels.shape[1] // factor), max(1, labels.shape[0] // factor))
    values = np.unique(labels)
    shares = [cv2.resize((labels == v).astype(np.float32), size, interpolation=cv2.INTER_AREA) for v in values]
    return np.asarray(values[np.argmax(shares, 0)], np.uint8)
