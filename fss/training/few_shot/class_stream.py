"""Class episodes for training on labelled collections: query and supports are different images of one class.

Each epoch has its own episode plan, which depends only on (seed, epoch). Images and masks are decoded once and cached
as canvases, up to the limit of the cache.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from fss.collection import ClassIndex, ImageReader
from fss.core.arrays import UInt8
from fss.core.config import config_hash
from fss.core.rng import keyed_rng
from fss.episodes.augmentation import View, draw_view
from fss.episodes.config import AugmentConfig
from fss.episodes.episode import RawEpisodes
from fss.episodes.episode_plan import Episode, EpisodePlan, make_plan
from fss.images.resize import image_canvas, mask_canvas
from fss.training.canvas_cache import GIGABYTE, CanvasCache
from fss.training.few_shot.config import StreamConfig
from fss.training.lanes import check_lanes, steps_per_epoch
from fss.training.prefetch import prefetch


class _ViewedImage(NamedTuple):
    """An image of an episode: the canvas [size, size, 4] of RGB and mask, and the view of it."""

    canvas: UInt8
    view: View


class ClassStream:
    """A stream of class episodes from a mask set with named classes."""

    def __init__(
        self,
        reader: ImageReader,
        index: ClassIndex,
        *,
        classes: Sequence[int],
        episodes: int,
        shots: int,
        image_size: int,
        stream: StreamConfig,
        augment: AugmentConfig,
        rank: int = 0,
        world: int = 1,
    ):
        """Check the classes and open the cache.

        Args:
            reader: reads images and masks by image id.
            index: the images that show each class.
            classes: ids of the classes to train on.
            episodes: episodes in an epoch, rounded down to whole batches.
            shots: supports per episode.
            image_size: side of canvases and rendered images, in pixels.
            stream: batch size, lanes, seed and cache. ``held_out`` is not used, because whole classes are held out
            here.
            augment: how views are drawn.
            rank: number of this worker, from 0.
            world: number of workers, at most the number of lanes.

        Raises:
            ValueError: a class has too few images, or the lanes do not divide the batch.
        """
        check_lanes(stream.lanes, stream.batch_size, world)
        self.image_size = image_size
        self.steps_per_epoch = steps_per_epoch(episodes, stream.lanes, stream.batch_size)
        self._reader, self._config, self._augment = reader, stream, augment
        self._index = {c: index.get(c, []) for c in sorted(set(classes))}
        self._shots = shots
        self.plan(0)  # raises an error that lists the classes with too few images
        entries = [(c, entry) for c, entries in self._index.items() for entry in entries]
        self._slots = {(c, entry.image_id): slot for slot, (c, entry) in enumerate(entries)}
        self._sizes = _native_sizes(reader, {entry.part for _, entry in entries})
        self._cache = CanvasCache(
            len(entries),
            image_size,
            channels=4,
            limit_bytes=stream.cache_gb * GIGABYTE,
            folder=stream.cache_folder,
            key=config_hash([f"{c} {name}" for c, name in self._slots]),
        )
        share = stream.batch_size // stream.lanes
        self._positions = [lane * share + row for lane in range(rank, stream.lanes, world) for row in range(share)]

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of classes and images to train on."""
        images = {entry.image_id for entries in self._index.values() for entry in entries}
        return {"train classes": len(self._index), "train images": len(images)}

    def plan(self, epoch: int) -> EpisodePlan:
        """Return the episodes of an epoch for all workers."""
        seed = int(keyed_rng(self._config.seed or 0, epoch=epoch, purpose="plan.seed").integers(2**62))
        count = self.steps_per_epoch * self._config.batch_size
        return make_plan(self._index, episodes=count, shots=self._shots, seed=seed)

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield this worker's share of each step of an epoch, from step ``start`` on; threads work ahead."""
        return prefetch(self._epoch(epoch, start), self._config.ahead)

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        plan = self.plan(epoch)
        with ThreadPoolExecutor(self._config.decode_threads) as pool:
            for step in range(start, self.steps_per_epoch):
                first = step * self._config.batch_size
                episodes = [plan.episodes[first + position] for position in self._positions]
                yield _collate(episodes, list(pool.map(lambda episode: self._load(episode, epoch), episodes)))

    def _load(self, episode: Episode, epoch: int) -> list[_ViewedImage]:
        """Return the query and the supports of an episode."""
        item = f"episode {episode.number}"
        images = []
        for position, image_id in enumerate((episode.query_id, *episode.support_ids)):
            canvas = self._canvas(episode.class_id, image_id)
            height, width = self._sizes[image_id]
            view = draw_view(
                self._augment,
                canvas[..., 3],
                height=height,
                width=width,
                size=self.image_size,
                seed=self._config.seed or 0,
                epoch=epoch,
                item=item,
                role=f"support.{position}" if position else "query",
            )
            images.append(_ViewedImage(canvas, view))
        return images

    def _canvas(self, class_id: int, image_id: str) -> UInt8:
        slot = self._slots[class_id, image_id]
        canvas = self._cache.get(slot)
        if canvas is None:
            rgb, mask = self._reader.read_binary(image_id, class_id)
            size = self.image_size
            canvas = np.dstack([image_canvas(rgb, size), mask_canvas(mask, size)])
            self._cache.put(slot, canvas)
        return canvas


def _native_sizes(reader: ImageReader, parts: set[str]) -> dict[str, tuple[int, int]]:
    """Return the height and width of every image in some parts, in pixels."""
    sizes = {}
    for _, table in reader.collection.parts.tables(sorted(parts), ["image_id", "height", "width"]):
        for image_id, height, width in zip(*(column.to_pylist() for column in table.columns), strict=True):
            sizes[image_id] = height, width
    return sizes


def _collate(episodes: Sequence[Episode], images_of: Sequence[Sequence[_ViewedImage]]) -> RawEpisodes:
    """Stack the query and the K supports of each of B episodes."""
    # canvases: [B, 1 + K, size, size, 4]
    canvases = torch.from_numpy(np.stack([[image.canvas for image in images] for images in images_of]))
    views = torch.from_numpy(np.stack([[image.view for image in images] for images in images_of]))
    images, masks = canvases[..., :3].permute(0, 1, 4, 2, 3).contiguous(), canvases[..., 3].contiguous()
    return RawEpisodes(
        query=images[:, 0],
        query_masks=masks[:, 0],
        query_views=views[:, 0],
        support=images[:, 1:],
        support_masks=masks[:, 1:],
        support_views=views[:, 1:],
        ids=tuple(" ".join((episode.query_id, *episode.support_ids)) for episode in episodes),
    )
