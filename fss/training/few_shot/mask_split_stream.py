"""A stream of self-supervised episodes: the mask of each image is split in two (MaskSplit, WACV 2022, section 3).

The content of a step depends only on (seed, epoch, step) and the number of lanes, not on workers, threads or resuming
(see ``fss.training.lanes``). Images are decoded once and cached as canvases, up to the limit of the cache.
"""

import functools
from collections.abc import Collection as Ids
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from fss.collection import Collection, MaskSet
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode import RawEpisodes
from fss.training.canvas_cache import CanvasCache
from fss.training.decode_pool import DecodePool
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.episode_stream import HeldOutTasks
from fss.training.few_shot.task_builder import EncodedRow, RowPosition, RowReader, TaskBuilder
from fss.training.few_shot.tasks import TaskSettings
from fss.training.few_shot.usable_rows import RowTable, scan
from fss.training.lanes import Draw, EpochOrder, check_lanes, steps_per_epoch

HELD_OUT_SPLIT = SplitConfig(distractor=0.5)
"""How the masks of held-out tasks are split, in every training: half of the tasks have a distractor."""
HELD_OUT_AUGMENT = AugmentConfig(jitter=0.0, blur=0.0, grey=0.0)
"""How held-out tasks are augmented, in every training: geometrically, but with the colours of the photograph."""


class MaskSplitStream(HeldOutTasks):
    """A stream of MaskSplit episodes from the images of a collection and a mask set."""

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
        rows: RowTable | None = None,
        rank: int = 0,
        world: int = 1,
        pin_memory: bool = False,
    ):
        """Scan the mask set and open the cache.

        Args:
            collection: the images.
            mask_set: one of the collection's mask sets; if an image shows several classes, each task uses a random one.
            image_size: side of canvases and rendered images, in pixels.
            stream: batch size, lanes, seed, cache.
            split: how masks are split.
            augment: how views are drawn.
            accepted: ids of the images to use (see ``MaskSet.read_acceptance``); None uses all.
            rows: result of :func:`scan` with these arguments, if there is one already.
            rank: number of this worker, from 0.
            world: number of workers, at most the number of lanes.
            pin_memory: put the batches into page-locked memory, for a GPU.

        Raises:
            ValueError: the mask set is incomplete, there are too few usable images, or the lanes do not divide the
            batch.
        """
        lanes = stream.lane_count
        check_lanes(lanes, stream.batch_size, world)
        if (split.distractor > 0 or split.collage > 0) and stream.batch_size == lanes:
            raise ValueError(
                "the photographs of distractors and collages come from the same lane, so a lane needs two rows of "
                f"each step: raise the batch ({stream.batch_size}) or lower the lanes ({lanes})"
            )
        self.image_size, self.mask_set = image_size, mask_set
        self.config, self.split, self.augment = stream, split, augment
        self.rows = rows or scan(collection, mask_set, split, accepted=accepted, held_out=stream.held_out)
        self.steps_per_epoch = steps_per_epoch(self.rows.counts["train"], lanes, stream.batch_size)
        self.lane_length, self.lane_count = self.rows.counts["train"] // lanes, lanes
        self.order = functools.lru_cache(4)(self._epoch_order)
        self.lanes, self._pin = range(rank, lanes, world), pin_memory
        limit, folder, key = stream.cache_gb, stream.cache_folder, f"{self.rows.key}-{stream.decoding}"
        cache = CanvasCache(self.rows.total, image_size, gigabytes=limit, folder=folder, key=key)
        # In each step, a lane reads one block, or two if it reaches the end of one.
        self._reader = RowReader(collection, mask_set, self.rows, cache, blocks=2 * len(self.lanes))
        self.builder = TaskBuilder(cache, collection.limits)
        self._decoders = DecodePool(self.builder, stream)

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of images to train on, held out, and excluded for each reason."""
        return dict(self.rows.counts)

    def _held_out_batches(self, limit: int | None) -> list[list[RowPosition]]:
        positions, batch = self.held_out_rows(limit), self.config.batch_size
        return [positions[n : n + batch] for n in range(0, len(positions), batch)]

    def held_out_rows(self, limit: int | None = None) -> list[RowPosition]:
        """Return the first ``limit`` rows that are held out."""
        rows_of = enumerate(self.rows.held_out)
        return list(islice(((block, int(row)) for block, rows in rows_of for row in rows), limit))

    def read_held_out(self, positions: Sequence[RowPosition]) -> list[EncodedRow]:
        """Read the held-out tasks of some rows."""
        settings = replace(self.settings(0), split=HELD_OUT_SPLIT, augment=HELD_OUT_AUGMENT, seed=0)
        return self._reader.read(positions, settings, self.config.batch_size)

    def read(self, draws: Sequence[Draw]) -> list[EncodedRow]:
        """Read the rows of some draws."""
        rows = []
        for epoch, position, lane in draws:
            row = self._positions(epoch, lane, position, 1)
            rows += self._reader.read(row, self.settings(epoch), self._rows_per_lane)
        return rows

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        settings, take = self.settings(epoch), self._rows_per_lane

        def read(step: int) -> list[EncodedRow]:
            positions = [row for lane in self.lanes for row in self._positions(epoch, lane, step * take, take)]
            return self._reader.read(positions, settings, take)

        yield from self._decoders.build(map(read, range(start, self.steps_per_epoch)))

    def _positions(self, epoch: int, lane: int, start: int, count: int) -> list[RowPosition]:
        """Return ``count`` rows of a lane from position ``start``."""
        lane_rows = self.order(epoch).rows(lane, start, count)
        return [(block, int(self.rows.train[block][number])) for block, number in lane_rows]

    @property
    def _rows_per_lane(self) -> int:
        """Return the number of rows that a step takes from each lane."""
        return self.config.batch_size // self.config.lane_count

    def _epoch_order(self, epoch: int) -> EpochOrder:
        return EpochOrder(self.rows.train.counts, seed=self.config.seed or 0, epoch=epoch, lanes=self.config.lane_count)

    def settings(self, epoch: int) -> TaskSettings:
        """Return the settings of the tasks of an epoch."""
        return TaskSettings(
            size=self.image_size,
            split=self.split,
            augment=self.augment,
            seed=self.config.seed or 0,
            epoch=epoch,
            decoding=self.config.decoding,
        )
