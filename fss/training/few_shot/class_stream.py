"""Class episodes for training on labelled collections: query and supports are different images of one class.

Each epoch has its own episode plan, drawn from (seed, epoch). Pictures and masks are read at random once and kept as
canvases while the cache has room.
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
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import GIGABYTE
from fss.training.lanes import check_lanes, steps_per_epoch
from fss.training.prefetch import prefetch


class _Shown(NamedTuple):
    """One picture of an episode: canvas [C, C, 4] of RGB and mask, and its view."""

    canvas: UInt8
    view: View


class ClassStream:
    """Class episodes of a mask set that names classes."""

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
            reader: of the collection and the mask set.
            index: which of its images show which class.
            classes: the classes to train on.
            episodes: in an epoch; what does not fill a batch is left out.
            shots: supports per episode.
            image_size: pixels a side of canvases and rendered images.
            stream: batch size, lanes, seed, cache; nothing is held out, because that is a matter of classes here.
            augment: how views are drawn.
            rank: this worker.
            world: all workers; must divide the lanes.

        Raises:
            ValueError: a class with too few images, or lanes that do not fit.
        """
        check_lanes(stream.lanes, stream.batch_size, world)
        self.image_size = image_size
        self.steps_per_epoch = steps_per_epoch(episodes, stream.lanes, stream.batch_size)
        self._reader, self._config, self._augment = reader, stream, augment
        self._index = {c: index.get(c, []) for c in sorted(set(classes))}
        self._shots = shots
        self.plan(0)  # names every class with too few images
        entries = [(c, entry) for c, found in self._index.items() for entry in found]
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
        self._places = [lane * share + row for lane in range(rank, stream.lanes, world) for row in range(share)]

    @property
    def counts(self) -> dict[str, int]:
        """How many classes and pictures are trained on."""
        images = {entry.image_id for found in self._index.values() for entry in found}
        return {"train classes": len(self._index), "train images": len(images)}

    def plan(self, epoch: int) -> EpisodePlan:
        """Return the plan of an epoch, over all workers."""
        seed = int(keyed_rng(self._config.seed or 0, epoch=epoch, purpose="plan.seed").integers(2**62))
        count = self.steps_per_epoch * self._config.batch_size
        return make_plan(self._index, episodes=count, shots=self._shots, seed=seed)

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield this worker's share of the steps ``start``, ``start + 1``, ... of an epoch, made ahead in threads."""
        return prefetch(self._epoch(epoch, start), self._config.ahead)

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        plan = self.plan(epoch)
        with ThreadPoolExecutor(self._config.decode_threads) as pool:
            for step in range(start, self.steps_per_epoch):
                rows = [plan.episodes[step * self._config.batch_size + place] for place in self._places]
                yield _collate(rows, list(pool.map(lambda row: self._make(row, epoch), rows)))

    def _make(self, episode: Episode, epoch: int) -> list[_Shown]:
        """Return query and supports of one episode."""
        item = f"episode {episode.number}"
        shown = []
        for place, image_id in enumerate((episode.query_id, *episode.support_ids)):
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
                role=f"support.{place}" if place else "query",
            )
            shown.append(_Shown(canvas, view))
        return shown

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
    """Return height and width of the images of some parts."""
    sizes = {}
    for part in sorted(parts):
        for row in reader.collection.read_part(part, ["image_id", "height", "width"]).to_pylist():
            sizes[row["image_id"]] = row["height"], row["width"]
    return sizes


def _collate(rows: Sequence[Episode], made: Sequence[Sequence[_Shown]]) -> RawEpisodes:
    canvases = torch.from_numpy(
        np.stack([[shown.canvas for shown in episode] for episode in made])
    )  # [B, 1+K, C, C, 4]
    views = torch.from_numpy(np.stack([[shown.view for shown in episode] for episode in made]))
    images, masks = canvases[..., :3].permute(0, 1, 4, 2, 3).contiguous(), canvases[..., 3].contiguous()
    return RawEpisodes(
        query=images[:, 0],
        query_masks=masks[:, 0],
        query_views=views[:, 0],
        support=images[:, 1:],
        support_masks=masks[:, 1:],
        support_views=views[:, 1:],
        ids=tuple(" ".join((episode.query_id, *episode.support_ids)) for episode in rows),
    )
