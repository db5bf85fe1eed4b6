"""Self-supervised episodes streamed from a collection: each image becomes one task by cutting its mask in two.

The content of a step depends on (seed, epoch, step) and the lanes alone, never on workers, threads or resume (see
``lanes``). Pictures are decoded once and kept as canvases while the cache has room.
"""

from collections.abc import Collection as Ids
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

from fss.collection import Collection, MaskSet
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode import RawEpisodes
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.task_builder import Place, TaskBuilder
from fss.training.few_shot.tasks import TaskSettings, collate
from fss.training.few_shot.usable_rows import scan
from fss.training.lanes import EpochOrder, check_lanes, steps_per_epoch
from fss.training.prefetch import prefetch

GIGABYTE = 1e9
HELD_OUT_SPLIT = SplitConfig(distractor=0.5)
"""How held-out tasks are cut: half of them need their support, whatever the training does."""
HELD_OUT_AUGMENT = AugmentConfig(jitter=0.0, blur=0.0, grey=0.0)
"""How held-out tasks are seen: moved and turned, in their own colours, as photographs are when the model is used."""


class EpisodeStream(Protocol):
    """What the training loop reads."""

    image_size: int
    """Pixels a side of the rendered images."""
    steps_per_epoch: int
    """Steps in every epoch, the same on every worker."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield this worker's share of the steps ``start``, ``start + 1``, ... of an epoch."""


class MaskSplitStream:
    """Episodes of MaskSplit over the images of a collection and the masks of a set."""

    def __init__(
        self,
        collection: Collection,
        mask_set: MaskSet,
        *,
        image_size: int,
        stream: StreamConfig,
        split: SplitConfig,
        augment: AugmentConfig,
        accepted: Ids[str] | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        """Scan the mask set and open the cache.

        Args:
            collection: the photographs.
            mask_set: any of its mask sets; where an image shows several classes, one is drawn per task.
            image_size: pixels a side of canvases and rendered images.
            stream: batch size, lanes, seed, cache.
            split: how masks are cut.
            augment: how views are drawn.
            accepted: image ids to use (see ``MaskSet.read_acceptance``); None uses all.
            rank: this worker.
            world: all workers; must divide the lanes.

        Raises:
            ValueError: an incomplete mask set, too few usable images, or lanes that do not fit.
        """
        check_lanes(stream.lanes, stream.batch_size, world)
        if split.distractor > 0 and stream.batch_size == stream.lanes:
            raise ValueError(
                "distractors come from the same lane, so a lane needs two rows of each step: "
                f"raise the batch ({stream.batch_size}) or lower the lanes ({stream.lanes})"
            )
        self.image_size, self.mask_set = image_size, mask_set
        self.config, self.split, self.augment = stream, split, augment
        self.rows = scan(collection, mask_set, split, accepted=accepted, held_out=stream.held_out)
        self.steps_per_epoch = steps_per_epoch(self.rows.counts["train"], stream.lanes, stream.batch_size)
        self._world, self._lanes = world, range(rank, stream.lanes, world)
        limit, folder = stream.cache_gb * GIGABYTE, stream.cache_folder
        cache = CanvasCache(self.rows.total, image_size, limit_bytes=limit, folder=folder, key=self.rows.key)
        # Each lane is within one part, or passes from one to the next within a step.
        self._maker = TaskBuilder(collection, mask_set, self.rows, cache, parts=2 * len(self._lanes))

    @property
    def counts(self) -> dict[str, int]:
        """How many images are trained on, held out, and left out for what reason."""
        return dict(self.rows.counts)

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield this worker's share of the steps ``start``, ``start + 1``, ... of an epoch, made ahead in threads."""
        return prefetch(self._epoch(epoch, start), self.config.ahead)

    def held_out(self, limit: int | None = None) -> Iterator[RawEpisodes]:
        """Yield the held-out tasks, the same whatever the seed, split and augmentation of the training.

        They are always cut and augmented by the same settings, so that runs compare; at most ``limit``.
        """
        places = [(part, int(row)) for part, rows in enumerate(self.rows.held_out) for row in rows][:limit]
        settings = TaskSettings(size=self.image_size, split=HELD_OUT_SPLIT, augment=HELD_OUT_AUGMENT, seed=0, epoch=0)
        with ThreadPoolExecutor(self.config.decode_threads) as pool:
            for first in range(0, len(places), self.config.batch_size):
                chosen = places[first : first + self.config.batch_size]
                yield self._make(pool, chosen, settings, group=len(chosen))

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        order, settings, take = self._order(epoch), self._settings(epoch), self._take
        with ThreadPoolExecutor(self.config.decode_threads) as pool:
            for step in range(start, self.steps_per_epoch):
                drawn = [place for lane in self._lanes for place in order.rows(lane, step * take, take)]
                places = [(part, int(self.rows.train[part][number])) for part, number in drawn]
                yield self._make(pool, places, settings, group=take)

    @property
    def _take(self) -> int:
        """Rows of every lane in a step."""
        return self.config.batch_size // self.config.lanes

    def _order(self, epoch: int) -> EpochOrder:
        counts = [len(rows) for rows in self.rows.train]
        return EpochOrder(counts, seed=self.config.seed or 0, epoch=epoch, lanes=self.config.lanes)

    def _settings(self, epoch: int) -> TaskSettings:
        return TaskSettings(
            size=self.image_size, split=self.split, augment=self.augment, seed=self.config.seed or 0, epoch=epoch
        )

    def _make(self, pool: Executor, places: list[Place], settings: TaskSettings, *, group: int) -> RawEpisodes:
        self._maker.load(places)
        return collate(list(pool.map(lambda place: self._maker.make(place, settings), places)), group)
