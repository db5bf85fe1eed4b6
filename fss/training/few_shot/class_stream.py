"""Class episodes for training on labelled collections: query and supports are different images of one class.

An episode depends only on (seed, epoch, number), so each worker draws just its own, when they are due. Images and masks
are decoded once and cached as canvases, up to the limit of the cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from fss.collection import ClassIndex, ImageReader
from fss.core.arrays import Mask, UInt8
from fss.core.config import config_hash
from fss.core.rng import keyed_rng
from fss.core.sorted_ids import SortedIds
from fss.episodes.augmentation import View, draw_view
from fss.episodes.config import AugmentConfig, DrawMode
from fss.episodes.episode import RawEpisodes
from fss.episodes.episode_plan import Episode, EpisodeSampler, check_plan_size
from fss.images.canvas import decode_canvas
from fss.images.limits import Decoding
from fss.images.mask_codec import binary_value, decode_mask
from fss.images.resize import mask_canvas
from fss.training.canvas_cache import CanvasCache
from fss.training.decode_pool import DecodePool
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.episode_stream import PreparedStream
from fss.training.lanes import Draw, check_share, steps_per_epoch


class ImageRow(NamedTuple):
    """An image of an episode: where it lies, and what its view depends on."""

    image_id: str
    part: str
    row: int
    slot: int
    """Slot of its canvas in the cache."""
    value: int
    """Value of the episode's class in its mask."""
    height: int
    """Native height, in pixels."""
    width: int
    """Native width, in pixels."""


class EpisodeRows(NamedTuple):
    """What an episode is built from."""

    number: int
    epoch: int
    images: tuple[ImageRow, ...]
    """The query and the supports."""


class ViewedImage(NamedTuple):
    """An image of an episode: RGB [3, size, size], mask [size, size], and the view of both."""

    rgb: UInt8
    mask: Mask
    view: View


@dataclass(frozen=True)
class EpisodeBuilder:
    """Builds episodes from the rows of their images, in any thread or process."""

    reader: ImageReader
    """Reads images and masks."""
    cache: CanvasCache
    """Cache of planes [4, size, size]: RGB and the index mask."""
    augment: AugmentConfig
    """How views are drawn."""
    size: int
    """Side of the canvases, in pixels."""
    seed: int
    """Seed of all random draws."""
    decoding: Decoding
    """How images are decoded."""

    def build(self, episode: EpisodeRows) -> list[ViewedImage]:
        """Decode the images of an episode and draw their views."""
        return [self._view(episode, number, row) for number, row in enumerate(episode.images)]

    def collate(self, episodes: Sequence[EpisodeRows], viewed: Sequence[Sequence[ViewedImage]]) -> RawEpisodes:
        """Stack the query and the K supports of each of B episodes."""
        # images: [B, 1 + K, 3, size, size]; masks: [B, 1 + K, size, size]
        images, masks, views = (
            torch.from_numpy(np.stack([[getattr(image, name) for image in each] for each in viewed]))
            for name in ViewedImage._fields
        )
        return RawEpisodes(
            query=images[:, 0],
            query_masks=masks[:, 0],
            query_views=views[:, 0],
            support=images[:, 1:],
            support_masks=masks[:, 1:],
            support_views=views[:, 1:],
            ids=tuple(" ".join(row.image_id for row in episode.images) for episode in episodes),
        )

    def _view(self, episode: EpisodeRows, number: int, row: ImageRow) -> ViewedImage:
        canvas = self._canvas(row)
        mask = binary_value(canvas[3], row.value)
        view = draw_view(
            self.augment,
            mask,
            height=row.height,
            width=row.width,
            size=self.size,
            seed=self.seed,
            epoch=episode.epoch,
            item=f"episode {episode.number}",
            role=f"support.{number}" if number else "query",
        )
        return ViewedImage(canvas[:3], mask, view)

    def _canvas(self, row: ImageRow) -> UInt8:
        canvas = self.cache.get(row.slot)
        if canvas is None:
            encoded = self.reader.read_encoded(row.image_id, row.part, row.row)
            if encoded.mask is None:
                raise ValueError(f"image {row.image_id} has no mask; choose a mask set that has one for it")
            rgb = decode_canvas(encoded.image, self.size, self.reader.collection.limits, decoding=self.decoding)
            canvas = np.concatenate([rgb, mask_canvas(decode_mask(encoded.mask), self.size)[None]])
            self.cache.put(row.slot, canvas)
        return canvas


class ClassStream(PreparedStream):
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
        pin_memory: bool = False,
        draw: DrawMode = "balanced",
    ):
        """Check the classes and open the cache.

        Args:
            reader: reads images and masks by image id.
            index: the images that show each class.
            classes: ids of the classes to train on.
            episodes: episodes in an epoch, rounded down to whole batches.
            shots: supports per episode.
            image_size: side of canvases and rendered images, in pixels.
            stream: batch size, seed and cache. ``held_out`` is not used, because whole classes are held out here, and
                ``lanes`` is not, because the plan of an epoch names the episodes of every step.
            augment: how views are drawn.
            rank: number of this worker, from 0.
            world: number of workers, at most the batch size; each has nearly equal shares.
            pin_memory: put the batches into page-locked memory, for a GPU.
            draw: how an episode's class and query are chosen, see ``EpisodeSampler``.

        Raises:
            ValueError: a class has too few images, or there are more workers than episodes in a batch.
        """
        check_share(stream.batch_size, world)
        check_plan_size(episodes, shots)
        self.image_size = image_size
        self.steps_per_epoch = steps_per_epoch(episodes, 1, stream.batch_size)
        # Every episode of a batch is a lane.
        self.lane_length, self.lane_count = self.steps_per_epoch, stream.batch_size
        self.config, self._pin, self._images = stream, pin_memory, reader.index
        self._index = index.select(classes)
        self._sampler = EpisodeSampler(self._index, self._index, shots, draw)
        ids = {c: entries.image_ids for c, entries in self._index.items()}
        self._entries = {c: SortedIds(of_class) for c, of_class in ids.items()}
        self._slots = SortedIds(pc.unique(pa.chunked_array(list(ids.values()))))
        assert reader.mask_set is not None, "the index lists the images of a mask set"
        # The configuration of a mask set stays the same when its source's labels are corrected; its files change.
        masks = reader.mask_set.config_hash, reader.mask_set.parts.state_hash()
        cache = CanvasCache(
            len(self._slots),
            image_size,
            channels=4,
            gigabytes=stream.cache_gb,
            folder=stream.cache_folder,
            key=config_hash([*masks, self._slots.ids.to_pylist(), stream.decoding]),
        )
        self.builder = EpisodeBuilder(reader, cache, augment, image_size, stream.seed or 0, stream.decoding)
        self._decoders = DecodePool(self.builder, stream)
        self.lanes = range(stream.batch_size * rank // world, stream.batch_size * (rank + 1) // world)

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of classes and images to train on."""
        return {"train classes": len(self._index), "train images": len(self._slots)}

    def draw(self, epoch: int, number: int) -> Episode:
        """Return an episode of an epoch of all workers."""
        seed = int(keyed_rng(self.config.seed or 0, epoch=epoch, purpose="plan.seed").integers(2**62))
        return self._sampler.draw(number, seed)

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        steps = range(start, self.steps_per_epoch)
        yield from self._decoders.build(self.read([Draw(epoch, step, lane) for lane in self.lanes]) for step in steps)

    def read(self, draws: Sequence[Draw]) -> list[EpisodeRows]:
        """Return the episodes of some draws; a lane has the episodes of one row of the batches."""
        count = self.lane_count
        return [self._rows(self.draw(each.epoch, each.position * count + each.lane), each.epoch) for each in draws]

    def _rows(self, episode: Episode, epoch: int) -> EpisodeRows:
        rows, entries = [], self._index[episode.class_id]
        for image_id in (episode.query_id, *episode.support_ids):
            number, slot = self._entries[episode.class_id].find(image_id), self._slots.find(image_id)
            assert number is not None and slot is not None, "the sampler draws from the entries"
            entry, (height, width) = entries[number], self._images.size(image_id)
            rows.append(ImageRow(image_id, entry.part, entry.row, slot, entry.value, height, width))
        return EpisodeRows(episode.number, epoch, tuple(rows))
