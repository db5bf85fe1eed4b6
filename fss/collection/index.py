"""Access to single images of a collection by image id."""

import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from fss.collection.collection import Collection
from fss.collection.image_index import ImageIndex
from fss.collection.mask_set import MaskSet, check_same_images
from fss.collection.part_io import read_image_bytes
from fss.collection.part_rows import PartRows
from fss.collection.schema import IMAGE_SCHEMA, MASK_SCHEMA
from fss.core.arrays import Mask, Rgb
from fss.images.decode import decode_image
from fss.images.mask_codec import binary_mask, decode_mask


class EncodedSample(NamedTuple):
    """The bytes of an image and, if the reader has a mask set that has one, of its mask."""

    image: bytes
    mask: bytes | None
    classes: tuple[int, ...]
    """``classes[v - 1]`` is the class of mask value v."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A decoded image and, if the reader has a mask set, its mask."""

    image_id: str
    """Id of the image."""
    rgb: Rgb
    """RGB image, uint8 [H, W, 3]."""
    mask: Mask | None
    """Index mask, uint8 [H, W]; None without a mask set or if the row has no mask."""
    classes: tuple[int, ...]
    """``classes[v - 1]`` is the class of mask value v."""

    def binary(self, class_id: int) -> Mask:
        """Return the mask of one class: uint8 [H, W] in {0, 1, 255}.

        Raises:
            ValueError: the image has no mask.
        """
        if self.mask is None:
            raise ValueError(f"image {self.image_id} has no mask; choose a mask set that has one for it")
        return binary_mask(self.mask, self.classes, class_id)


class ImageReader:
    """Random access by image id. Thread-safe."""

    def __init__(
        self,
        collection: Collection,
        mask_set: MaskSet | None = None,
        *,
        cached_groups: int = 16,
        index: ImageIndex | None = None,
    ):
        """Open a reader.

        Args:
            collection: collection of the images.
            mask_set: mask set to read with the images; None reads images alone.
            cached_groups: row groups to keep in memory, encoded, of parts that only give whole row groups
                (see :mod:`fss.collection.part_rows`).
            index: positions of the collection's images; None reads them at the first use.

        Raises:
            ValueError: ``cached_groups`` is less than 1.
        """
        if cached_groups < 1:
            raise ValueError(f"cached_groups must be at least 1, got {cached_groups}")
        self.collection = collection
        self.mask_set = mask_set
        self._limits = collection.limits
        self._cached_groups = cached_groups
        self._images = PartRows(
            collection.parts.uri, IMAGE_SCHEMA, ["uri", "image", "error"], cached_groups=cached_groups
        )
        self._masks: PartRows | None = None
        if mask_set is not None:
            self._masks = PartRows(
                mask_set.uri, MASK_SCHEMA, ["image_id", "mask", "classes"], cached_groups=cached_groups
            )
        self._index = index
        self._masked = mask_set.finished_parts() if mask_set is not None else set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Open an equal reader in another process."""
        return partial(ImageReader, cached_groups=self._cached_groups), (self.collection, self.mask_set)

    def __contains__(self, image_id: str) -> bool:
        return self.index.find(image_id) is not None

    @property
    def index(self) -> ImageIndex:
        """Positions of the collection's images."""
        with self._lock:
            if self._index is None:
                self._index = ImageIndex.build(self.collection)
            return self._index

    def read(self, image_id: str) -> Sample:
        """Read and decode one image and its mask.

        Raises:
            ValueError: the collection has no such image, or the image is quarantined.
        """
        position = self.index.find(image_id)
        if position is None:
            raise ValueError(
                f"{self.collection.uri} has no image {image_id}; open the collection that the id comes from"
            )
        encoded = self.read_encoded(image_id, *position)
        return Sample(
            image_id=image_id,
            rgb=decode_image(encoded.image, self._limits),
            mask=decode_mask(encoded.mask) if encoded.mask else None,
            classes=encoded.classes,
        )

    def read_encoded(self, image_id: str, part: str, row: int) -> EncodedSample:
        """Read an image and its mask from a row of a part, without decoding them.

        Raises:
            ValueError: the image is quarantined or is not the one that was ingested, or the mask is that of another
                image.
        """
        image, uri = self._images.value(part, row, "image"), f"row {row} of {part}"
        if image is None:
            uri, error = (self._images.other(part, row, column) for column in ("uri", "error"))
            if error:
                raise ValueError(f"image {image_id} ({uri}) is unusable: {error}; leave it out")
        image = read_image_bytes(image, uri, self._limits, image_id=image_id)
        if self._masks is None or part not in self._masked:
            return EncodedSample(image, None, ())
        assert self.mask_set is not None
        check_same_images([self._masks.other(part, row, "image_id")], [image_id], self.mask_set.name, part)
        classes = self._masks.other(part, row, "classes") or ()
        return EncodedSample(image, self._masks.value(part, row, "mask"), tuple(entry["id"] for entry in classes))

    def read_binary(self, image_id: str, class_id: int) -> tuple[Rgb, Mask]:
        """Return an image, uint8 [H, W, 3], and the mask of one class, uint8 [H, W] in {0, 1, 255}.

        Raises:
            ValueError: the collection has no such image, it is quarantined, or it has no mask.
        """
        sample = self.read(image_id)
        return sample.rgb, sample.binary(class_id)
