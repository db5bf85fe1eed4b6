"""Finding and reading single images of a collection: by class, and by image id."""

import threading
from collections import OrderedDict
from collections.abc import Collection as Ids
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from fss.collection.collection import Collection
from fss.collection.mask_set import MaskSet
from fss.collection.part_io import read_image_bytes
from fss.core.arrays import Mask, Rgb
from fss.images.decode import decode_image
from fss.images.mask_codec import binary_mask, decode_mask


class Entry(NamedTuple):
    """A picture that shows a class."""

    image_id: str
    part: str
    row: int
    pixels: int


class ClassIndex(Mapping[int, list[Entry]]):
    """Which pictures show which class: class id to entries, in the order of parts and rows. No mask is decoded."""

    def __init__(self, entries: Mapping[int, list[Entry]]):
        self._entries = {class_id: entries[class_id] for class_id in sorted(entries)}

    @classmethod
    def build(cls, mask_set: MaskSet, *, min_pixels: int = 1, accepted: Ids[str] | None = None) -> "ClassIndex":
        """Index a mask set.

        Args:
            mask_set: the masks.
            min_pixels: leave out pictures that show less of the class.
            accepted: image ids to take; None takes all. Rows with an error are left out anyway.
        """
        entries: dict[int, list[Entry]] = {}
        finished = mask_set.finished_parts()
        for part in [name for name in mask_set.collection.part_names() if name in finished]:
            table = mask_set.read_part(part, ["image_id", "classes", "error"])
            for row, record in enumerate(table.to_pylist()):
                image_id = record["image_id"]
                if record["error"] or (accepted is not None and image_id not in accepted):
                    continue
                for entry in record["classes"] or ():
                    if entry["pixels"] >= max(1, min_pixels):
                        entries.setdefault(entry["id"], []).append(Entry(image_id, part, row, entry["pixels"]))
        return cls(entries)

    def __getitem__(self, class_id: int) -> list[Entry]:
        return self._entries[class_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A decoded picture and, where a mask set was named, its mask."""

    image_id: str
    """Its identity."""
    rgb: Rgb
    """uint8 [H, W, 3]."""
    mask: Mask | None
    """Index mask, uint8 [H, W]; None without a mask set, or where the row has none."""
    classes: tuple[int, ...]
    """``classes[v - 1]`` is the class of mask value v."""

    def binary(self, class_id: int) -> Mask:
        """Return the mask of one class: uint8 [H, W] in {0, 1, 255}.

        Raises:
            ValueError: the picture has no mask.
        """
        if self.mask is None:
            raise ValueError(f"image {self.image_id} has no mask; name a mask set that has one for it")
        return binary_mask(self.mask, self.classes, class_id)


class ImageReader:
    """Random access by image id, with the parts used last kept in memory. Threads may share one."""

    def __init__(self, collection: Collection, mask_set: MaskSet | None = None, *, cached_parts: int = 8):
        """Open a reader.

        Args:
            collection: where the pictures are.
            mask_set: whose masks to read beside them.
            cached_parts: parts to keep in memory (encoded, so about the size of their files).
        """
        if cached_parts < 1:
            raise ValueError(f"cached_parts is 1 or more, got {cached_parts}")
        self.collection = collection
        self.mask_set = mask_set
        self._limits = collection.limits
        self._cached_parts = cached_parts
        self._parts: OrderedDict[str, tuple[pa.Table, pa.Table | None]] = OrderedDict()
        self._places: dict[str, tuple[str, int]] = {}
        self._masked = mask_set.finished_parts() if mask_set is not None else set()
        self._lock = threading.Lock()

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._index()

    def read(self, image_id: str) -> Sample:
        """Read and decode one picture and its mask.

        Raises:
            ValueError: the collection has no such picture, or it is quarantined.
        """
        if image_id not in self._index():
            raise ValueError(f"{self.collection.uri} has no image {image_id}; was it made from this collection?")
        part, row = self._index()[image_id]
        images, masks = self._part(part)
        record = _row(images, row)
        if record["error"]:
            raise ValueError(f"image {image_id} ({record['uri']}) is unusable: {record['error']}")
        data = read_image_bytes(record["image"], record["uri"], self._limits)
        found: dict[str, Any] = _row(masks, row) if masks is not None else {}
        return Sample(
            image_id=image_id,
            rgb=decode_image(data, self._limits),
            mask=decode_mask(found["mask"]) if found.get("mask") else None,
            classes=tuple(entry["id"] for entry in found.get("classes") or ()),
        )

    def read_binary(self, image_id: str, class_id: int) -> tuple[Rgb, Mask]:
        """Return a picture, uint8 [H, W, 3], and the mask of one class, uint8 [H, W] in {0, 1, 255}."""
        sample = self.read(image_id)
        return sample.rgb, sample.binary(class_id)

    def _index(self) -> dict[str, tuple[str, int]]:
        with self._lock:
            if not self._places:
                for part, ids in self.collection.image_ids().items():
                    self._places.update((image_id, (part, row)) for row, image_id in enumerate(ids))
            return self._places

    def _part(self, part: str) -> tuple[pa.Table, pa.Table | None]:
        with self._lock:
            if part not in self._parts:
                images = self.collection.read_part(part, ["uri", "image", "error"])
                masks = None
                if self.mask_set is not None and part in self._masked:
                    masks = self.mask_set.read_part(part, ["mask", "classes"])
                self._parts[part] = images, masks
                while len(self._parts) > self._cached_parts:
                    self._parts.popitem(last=False)
            self._parts.move_to_end(part)
            return self._parts[part]


def _row(table: pa.Table, row: int) -> dict[str, Any]:
    return {name: table.column(name)[row].as_py() for name in table.column_names}
