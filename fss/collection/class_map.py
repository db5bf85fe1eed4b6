"""Class maps for semantic segmentation: masks of a collection as one number per pixel, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Mask, UInt8
from fss.images.mask_codec import from_class_map

"""uint8 [H, W]: a class number 0 .. C - 1 per pixel, 255 ignored."""


class ClassTable:
    """Numbers the classes of a collection from 0.

    Number 0 is the background, or the class of id 0 where a collection has one (Cityscapes' road, CamVid's sky); the
    others follow in the order of their ids.
    """

    def __init__(self, class_ids: Iterable[int]):
        """Number the classes.

        Args:
            class_ids: the collection's, such as ``Collection.classes``.

        Raises:
            ValueError: no class, or more than fit a byte.
        """
        listed = set(class_ids)
        if not listed:
            raise ValueError("the collection names no classes; semantic segmentation needs a labelled collection")
        self.background = 0 not in listed
        self.ids = tuple(sorted(listed | {0}))
        if len(self.ids) > IGNORE:
            raise ValueError(f"semantic segmentation knows at most {IGNORE} classes, got {len(self.ids)}")
        self._number = {class_id: number for number, class_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def to_labels(self, mask: Mask, classes: Iterable[Mapping[str, Any]]) -> UInt8:
        """Return a row's index mask as class numbers.

        Args:
            mask: index mask, uint8 [H, W].
            classes: the row's ``classes``.

        Raises:
            ValueError: a class that the collection does not name.
        """
        table = np.full(256, IGNORE, np.uint8)
        table[0] = 0
        for position, entry in enumerate(classes):
            if entry["id"] not in self._number:
                raise ValueError(f"a mask shows class {entry['id']}; the classes are {list(self.ids)}")
            table[position + 1] = self._number[entry["id"]]
        return np.asarray(cv2.LUT(mask, table), np.uint8)

    def to_mask(self, labels: UInt8) -> tuple[Mask, list[int]]:
        """Return class numbers as an index mask and its class ids; the inverse of :meth:`to_labels`."""
        mask, numbers = from_class_map(labels, background=0 if self.background else None)
        return mask, [self.ids[number] for number in numbers]


def shrink_image(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return a picture [H, W, 3] with its sides divided, by means."""
    if factor == 1:
        return rgb
    size = (max(1, rgb.shape[1] // factor), max(1, rgb.shape[0] // factor))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def shrink_labels(labels: UInt8, factor: int) -> UInt8:
    """Return a class map with its sides divided, by majority (the smaller number where two are as many)."""
    if factor == 1:
        return labels
    size = (max(1, labels.shape[1] // factor), max(1, labels.shape[0] // factor))
    values = np.unique(labels)
    shares = [cv2.resize((labels == v).astype(np.float32), size, interpolation=cv2.INTER_AREA) for v in values]
    return np.asarray(values[np.argmax(shares, 0)], np.uint8)
