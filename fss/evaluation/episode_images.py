"""Images and masks of an evaluation at network size, decoded once as long as they fit into the cache."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

import numpy as np
import torch
from cachetools import LRUCache, cachedmethod
from numpy.typing import NDArray
from torch import Tensor

from fss.collection.index import Sample
from fss.core.arrays import UInt8
from fss.episodes.episode_plan import Episode
from fss.episodes.rendering import canvas_batch
from fss.images.mask_codec import binary_mask
from fss.images.resize import image_canvas, mask_canvas
from fss.models.scales import cut_tile

_ORIGINALS = 2.5e8  # bytes of photographs that are kept for their next tiles


class Reader(Protocol):
    """Reads an image and its mask by image id, as ``ImageReader`` does."""

    def read(self, image_id: str) -> Sample:
        """Return the decoded image with its mask."""


class Picture(NamedTuple):
    """Canvas, uint8 [S, S, 3], index mask, uint8 [S, S], and the classes of its values."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    classes: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.rgb.nbytes + self.mask.nbytes


class PictureCache(Protocol):
    """Keeps pictures by image id. Thread-safe."""

    def get(self, image_id: str) -> Picture | None:
        """Return a picture, or None if it is not there."""

    def put(self, image_id: str, picture: Picture) -> None:
        """Keep a picture if there is room for it."""


class MemoryCache:
    """Keeps the pictures that were used last, in the memory of this process."""

    def __init__(self, limit_bytes: float = 1e9):
        self._pictures: LRUCache[str, Picture] = LRUCache(limit_bytes, getsizeof=attrgetter("nbytes"))
        self._lock = threading.Lock()

    def get(self, image_id: str) -> Picture | None:
        """Return a picture, or None if it is not there."""
        with self._lock:
            return self._pictures.get(image_id)

    def put(self, image_id: str, picture: Picture) -> None:
        """Keep a picture, unless it is larger than the whole cache."""
        with self._lock, suppress(ValueError):
            self._pictures[image_id] = picture


class EpisodeImages:
    """Images and masks resized to the square of the network, and masks at their original size. Thread-safe."""

    def __init__(self, reader: Reader, size: int, *, cache: PictureCache | None = None):
        """Open the images.

        Args:
            reader: reads images and masks.
            size: side of the square, in pixels.
            cache: keeps them at this size; None keeps up to a gigabyte of them in memory.
        """
        self.reader, self.size = reader, size
        self._cache = cache or MemoryCache()
        self._originals: LRUCache[str, UInt8] = LRUCache(_ORIGINALS, getsizeof=attrgetter("nbytes"))
        self._lock = threading.Lock()

    def images(self, image_ids: Sequence[str]) -> Tensor:
        """Return normalised images, float32 [N, 3, size, size]."""
        return canvas_batch([self._read(name).rgb for name in image_ids])

    def masks(self, image_ids: Sequence[str], class_id: int | Sequence[int]) -> Tensor:
        """Return masks of one class, or of one class per image, uint8 [N, size, size] in {0, 1, 255}."""
        class_ids = [class_id] * len(image_ids) if isinstance(class_id, int) else class_id
        masks = [_binary(self._read(name), c) for name, c in zip(image_ids, class_ids, strict=True)]
        return torch.from_numpy(np.stack(masks))

    def pictures(self, image_ids: Sequence[str], height: int, width: int) -> list[UInt8]:
        """Return images of the square of the network, or else of their original size, which is ``height`` x ``width``.

        Each is uint8 [height, width, 3].
        """
        square = (height, width) == (self.size, self.size)
        return [self._read(name).rgb if square else self._original(name) for name in image_ids]

    def tiles(self, image_ids: Sequence[str], numbers: Sequence[int]) -> Tensor:
        """Return one tile of each image, cut from it at its own size, normalised float32 [N, 3, size, size].

        The tiles are those of ``fss.models.scales``.
        """
        cut = [cut_tile(self._original(name), number) for name, number in zip(image_ids, numbers, strict=True)]
        return canvas_batch([image_canvas(tile, self.size) for tile in cut])

    def original_mask(self, image_id: str, class_id: int) -> Tensor:
        """Return the mask of one class at the original size of the image, uint8 [H, W] in {0, 1, 255}."""
        sample = self.reader.read(image_id)
        self._keep(image_id, sample)  # the canvases are needed next, and another read costs another decoding
        return torch.from_numpy(binary_mask(_mask(sample), sample.classes, class_id))

    @cachedmethod(attrgetter("_originals"), lock=attrgetter("_lock"))
    def _original(self, image_id: str) -> UInt8:
        """Return an image at its own size, uint8 [H, W, 3]."""
        return self.reader.read(image_id).rgb

    def _read(self, image_id: str) -> Picture:
        picture = self._cache.get(image_id)
        return self._keep(image_id, self.reader.read(image_id)) if picture is None else picture

    def _keep(self, image_id: str, sample: Sample) -> Picture:
        picture = Picture(image_canvas(sample.rgb, self.size), mask_canvas(_mask(sample), self.size), sample.classes)
        self._cache.put(image_id, picture)
        return picture


def _binary(picture: Picture, class_id: int) -> NDArray[np.uint8]:
    return binary_mask(picture.mask, picture.classes, class_id)


def _mask(sample: Sample) -> NDArray[np.uint8]:
    if sample.mask is None:
        raise ValueError(f"image {sample.image_id} has no mask in the mask set that is evaluated against")
    return sample.mask


@dataclass(frozen=True)
class EvaluationBatch:
    """Some episodes of a plan with their masks and access to their images."""

    episodes: Sequence[Episode]
    """B rows of the plan."""
    pictures: EpisodeImages
    """Images of the episodes."""
    target: Tensor
    """Masks of the queries, long [B, H, W] in {0, 1, 255}, at network size or, with B = 1, at their original size."""
    support_masks: Tensor
    """Masks of the supports, float32 [B, K, S, S] in {0, 1}."""

    @classmethod
    def load(cls, episodes: Sequence[Episode], pictures: EpisodeImages, *, original: bool = False) -> "EvaluationBatch":
        """Read the masks of episodes with equal shots; ``original`` takes one episode and keeps its target's size."""
        classes = [episode.class_id for episode in episodes]
        shots = len(episodes[0].support_ids)
        if original:
            (query,) = episodes
            target = pictures.original_mask(query.query_id, query.class_id)[None].long()
        else:
            target = pictures.masks([episode.query_id for episode in episodes], classes).long()
        names = [name for episode in episodes for name in episode.support_ids]
        masks = pictures.masks(names, [c for c in classes for _ in range(shots)])
        support = (masks == 1).float().reshape(len(episodes), shots, *masks.shape[1:])
        return cls(episodes, pictures, target, support)

    def query_pictures(self) -> list[UInt8]:
        """Return the B queries at the size of ``target``, each uint8 [H, W, 3]."""
        height, width = self.target.shape[-2:]
        return self.pictures.pictures(self.query_ids, height, width)

    @property
    def query_ids(self) -> list[str]:
        """Image ids of the B queries."""
        return [episode.query_id for episode in self.episodes]

    @property
    def support_ids(self) -> list[str]:
        """Image ids of the B * K supports, grouped by episode."""
        return [name for episode in self.episodes for name in episode.support_ids]
