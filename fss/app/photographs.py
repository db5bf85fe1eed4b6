"""The photographs of the page: those of a folder or of a collection, by their position in the order of names."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache, cachedmethod

from fss.collection import Collection, ImageReader
from fss.collection.config import SourceConfig
from fss.collection.image_names import find_image_root
from fss.collection.schema import make_image_id
from fss.collection.sources import list_items
from fss.core import storage
from fss.core.arrays import Rgb
from fss.images.decode import decode_image, resize_long_side
from fss.images.limits import DecodeLimits
from fss.visualize import jpeg_bytes

_DECODED_BYTES = 2**28  # of photographs that are kept decoded
_SCALED_BYTES = 2**27  # of JPEGs that are kept


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A photograph, not yet read."""

    name: str
    """Path relative to the folder or to the source of the collection."""
    uri: str
    """Path or s3:// URI of the file."""
    image_id: str | None = None
    """Image id in the collection; None for a file of a folder."""


class Photographs(Sequence[Photograph]):
    """Photographs with cached access to their pixels. Thread-safe."""

    def __init__(
        self,
        items: Sequence[Photograph],
        read: Callable[[Photograph], bytes],
        *,
        root: str,
        limits: DecodeLimits,
        most: int,
    ) -> None:
        """Keep the first ``most`` photographs.

        Args:
            items: the photographs.
            read: returns the encoded bytes of one.
            root: folder that the names are relative to.
            limits: limits that a photograph is checked against before it is decoded.
            most: largest number of photographs.

        Raises:
            ValueError: there is none.
        """
        if not items:
            raise ValueError(f"there is no photograph in {root}; give another folder, or a collection with photographs")
        self._items, self._read = sorted(items, key=lambda item: item.name)[:most], read
        self.root, self.limits, self.total = root, limits, len(items)
        self._lock = threading.Lock()
        self._decoded: LRUCache[object, Rgb] = LRUCache(_DECODED_BYTES, getsizeof=lambda rgb: rgb.nbytes)
        self._scaled: LRUCache[object, bytes] = LRUCache(_SCALED_BYTES, getsizeof=len)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position):  # type: ignore[no-untyped-def]
        return self._items[position]

    def encoded(self, position: int) -> bytes:
        """Return the bytes of the file.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return self._read(self._items[position])
        except OSError as error:
            raise ValueError(f"{self._items[position].uri}: {error.strerror or error}") from error

    def decode(self, position: int) -> Rgb:
        """Return the pixels, uint8 [H,W,3], without keeping them.

        Raises:
            ValueError: the photograph cannot be read or decoded, or exceeds the limits.
        """
        return decode_image(self.encoded(position), self.limits)

    @cachedmethod(lambda self: self._decoded, lock=lambda self: self._lock)
    def rgb(self, position: int) -> Rgb:
        """Return the pixels as :meth:`decode` does; those of the last photographs are kept."""
        return self.decode(position)

    @cachedmethod(lambda self: self._scaled, lock=lambda self: self._lock)
    def jpeg(self, position: int, side: int) -> bytes:
        """Return the photograph as JPEG with a long side of at most ``side`` pixels; errors as in :meth:`decode`."""
        return jpeg_bytes(resize_long_side(self.decode(position), side))

    def image_id(self, position: int) -> str:
        """Return the image id that the photograph has in a collection, or would have in one of this folder."""
        item = self._items[position]
        return item.image_id or make_image_id(self.encoded(position), item.name)


def of_folder(folder: str, *, max_pixels: int, most: int) -> Photographs:
    """Open the photographs of a folder, local or s3://, as an ingest of it would find them.

    Args:
        folder: the folder; photographs lie at any depth, and folders of masks beside them are left out.
        max_pixels: largest height times width of a photograph.
        most: largest number of photographs.

    Raises:
        ValueError: there is no such folder, or no photograph in it.
    """
    items = [Photograph(name=item.relative_path, uri=item.uri) for item in list_items(folder_source(folder)).items]
    limits = DecodeLimits(max_pixels=max_pixels)
    return Photographs(
        items,
        lambda item: storage.read_bytes(item.uri, limits.max_bytes + 1),
        root=storage.absolute_uri(folder),
        limits=limits,
        most=most,
    )


def folder_source(folder: str) -> SourceConfig:
    """Return the source of a folder of photographs, whose masks are left out."""
    return SourceConfig(path=folder, masks="none")


def of_collection(collection: Collection, *, max_pixels: int, most: int) -> Photographs:
    """Open the usable photographs of a collection; arguments and errors as in :func:`of_folder`."""
    root, reader = find_image_root(collection), ImageReader(collection)
    items = []
    for _, table in collection.parts.tables(collection.part_names(), ["image_id", "uri", "error"]):
        items += [
            Photograph(name=root.relative(row["uri"]), uri=row["uri"], image_id=row["image_id"])
            for row in table.to_pylist()
            if not row["error"]
        ]

    def read(item: Photograph) -> bytes:
        assert item.image_id is not None
        position = reader.index.find(item.image_id)
        assert position is not None
        return reader.read_encoded(item.image_id, *position).image

    limits = collection.limits.as_dict()
    limits["max_pixels"] = min(max_pixels, limits["max_pixels"])
    return Photographs(items, read, root=root.uri, limits=DecodeLimits(**limits), most=most)
