"""A stream of batches from a collection, with labelled pictures and pictures of the pool.

The pool contains all usable pictures, whose labels are not used. The content of a step depends only on (seed, step) and
the number of lanes, not on workers, threads or resuming (see ``fss.training.lanes``). The labelled pictures and the
pool have separate orders and epochs.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from fss.collection import MaskSet
from fss.core.arrays import IGNORE, UInt8
from fss.core.prefetch import prefetch
from fss.core.rng import keyed_rng
from fss.training.decode_pool import decoder_count
from fss.training.lanes import EpochOrder, check_lanes, steps_per_epoch
from fss.training.semi_supervised.config import SemanticStreamConfig
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import Rows, SemanticRows
from fss.training.semi_supervised.strong_augmentation import apply_strong, draw_strong
from fss.training.semi_supervised.weak_augmentation import apply_weak, apply_weak_to_labels, draw_weak

RowKey = tuple[int, int, int]
"""Epoch, part number and row."""
Sample = tuple[str, UInt8, UInt8, UInt8, Tensor]
"""The fields of a batch for one picture."""


class LabelledBatch(NamedTuple):
    """Labelled pictures after weak augmentation."""

    ids: tuple[str, ...]
    """Image ids."""
    pixels: Tensor
    """uint8 [B,3,H,W]."""
    truth: Tensor
    """uint8 [B,H,W], 255 ignored."""
    pseudo: Tensor
    """uint8 [B,H,W], pseudo-labels of the previous stage; all 255 in stage 1."""
    inside: Tensor
    """bool [B,H,W], True except in the margin around a small picture."""

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """Return the share of a worker that gets no labelled picture of a step."""
        pixels = torch.zeros(0, 3, height, width, dtype=torch.uint8)
        return cls((), pixels, pixels[:, 0], pixels[:, 0], pixels[:, 0].bool())


class PoolBatch(NamedTuple):
    """Pictures of the pool as the teacher (weak augmentation) and the student (strong augmentation) see them."""

    ids: tuple[str, ...]
    """Image ids."""
    pixels: Tensor
    """uint8 [B,3,H,W], weakly augmented."""
    strong: Tensor
    """uint8 [B,3,H,W], ``pixels`` after strong augmentation."""
    pseudo: Tensor
    """uint8 [B,H,W], pseudo-labels of the previous stage for ``pixels``."""
    source: Tensor
    """long [B,H,W], the flat index in ``pixels`` of each pixel of ``strong``, or -1 (see ``warp_labels``)."""

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """Return the share of a worker that gets no picture of the pool in a step."""
        pixels = torch.zeros(0, 3, height, width, dtype=torch.uint8)
        return cls((), pixels, pixels, pixels[:, 0], pixels[:, 0].long())


class SemanticBatch(NamedTuple):
    """The input of one step."""

    labelled: LabelledBatch
    """Labelled pictures."""
    pool: PoolBatch | None
    """Pictures of the pool; None in stage 1."""

    def to(self, device: torch.device) -> "SemanticBatch":
        """Return the batch with all tensors on ``device``."""
        labelled = LabelledBatch(self.labelled.ids, *(tensor.to(device) for tensor in self.labelled[1:]))
        if self.pool is None:
            return SemanticBatch(labelled, None)
        return SemanticBatch(labelled, PoolBatch(self.pool.ids, *(tensor.to(device) for tensor in self.pool[1:])))


class SemanticStream:
    """A stream of batches for one stage of the three-stage framework."""

    def __init__(
        self,
        reader: SemanticReader,
        rows: SemanticRows,
        config: SemanticStreamConfig,
        *,
        truth: MaskSet,
        pseudo: MaskSet | None,
        labelled: int,
        pool: int,
        rank: int = 0,
        world: int = 1,
    ):
        """Check the arguments and create the reading orders.

        Args:
            reader: reads pictures and class maps.
            rows: the labelled rows and the rows of the pool.
            config: augmentation, lanes and seed.
            truth: mask set with the labels of the labelled pictures.
            pseudo: mask set of the previous stage, with all pictures; None in stage 1.
            labelled: labelled pictures in a step, over all workers.
            pool: pictures of the pool in a step, over all workers; 0 in stage 1.
            rank: number of this worker, from 0.
            world: number of workers.

        Raises:
            ValueError: there are too few pictures, the mask set is incomplete, or a worker would get no picture.
        """
        if labelled + pool < world:
            raise ValueError(
                f"{world} workers cannot share the {labelled + pool} pictures of a step; use fewer workers, or more "
                "pictures per step"
            )
        if pool and pseudo is None:
            raise ValueError("the pool needs the masks of the previous stage; give pseudo, or set pool to 0")
        if pseudo is not None:
            pseudo.require_parts(rows.parts)
        self.config, self.reader = config, reader
        self._truth, self._pseudo, self._seed = truth, pseudo, config.seed or 0
        block_rows = reader.collection.block_rows
        self._labelled = _Order(rows.labelled, block_rows, labelled, config, "labelled", rank, world)
        pool_rows = (rows.pool, block_rows, pool, config, "pool", rank, world)
        self._pool = _Order(*pool_rows, before=labelled) if pool else None

    def batches(self, start: int, stop: int) -> Iterator[SemanticBatch]:
        """Yield this worker's share of each step from ``start`` to ``stop`` - 1; threads work ahead."""
        return prefetch(self._steps(start, stop), self.config.ahead)

    def _steps(self, start: int, stop: int) -> Iterator[SemanticBatch]:
        with ThreadPoolExecutor(decoder_count(self.config.decode_threads)) as threads:
            for step in range(start, stop):
                labelled, pool = LabelledBatch.empty(*self.config.weak.crop), None
                if keys := self._labelled.row_keys(step):
                    names, tensors = _collate(threads.map(self._labelled_sample, keys))
                    labelled = LabelledBatch(names, *tensors)
                if self._pool is not None:
                    pool = PoolBatch.empty(*self.config.weak.crop)
                    if keys := self._pool.row_keys(step):
                        names, tensors = _collate(threads.map(self._pool_sample, keys))
                        pool = PoolBatch(names, *tensors)
                yield SemanticBatch(labelled, pool)

    def _labelled_sample(self, row_key: RowKey) -> Sample:
        epoch, part, row = row_key
        name, crop = self.reader.image_id(part, row), self.config.weak.crop
        rng = keyed_rng(self._seed, epoch=epoch, item=name, purpose="semantic.labelled.view")
        view = draw_weak(rng, self.config.weak)
        rgb = self.reader.picture(part, row)
        truth = apply_weak_to_labels(self.reader.labels(self._truth, part, row), view, crop)
        pseudo = np.full(crop, IGNORE, np.uint8)
        if self._pseudo is not None:
            pseudo = apply_weak_to_labels(self.reader.labels(self._pseudo, part, row), view, crop)
        inside = apply_weak_to_labels(np.zeros(rgb.shape[:2], np.uint8), view, crop) != IGNORE
        return name, apply_weak(rgb, view, crop), truth, pseudo, torch.from_numpy(inside)

    def _pool_sample(self, row_key: RowKey) -> Sample:
        epoch, part, row = row_key
        assert self._pseudo is not None
        name, weak = self.reader.image_id(part, row), self.config.weak
        view = draw_weak(keyed_rng(self._seed, epoch=epoch, item=name, purpose="semantic.pool.view"), weak)
        rgb = self.reader.picture(part, row)
        picture = apply_weak(rgb, view, weak.crop)
        pseudo = apply_weak_to_labels(self.reader.labels(self._pseudo, part, row), view, weak.crop)
        inside = apply_weak_to_labels(np.zeros(rgb.shape[:2], np.uint8), view, weak.crop) != IGNORE
        rng = keyed_rng(self._seed, epoch=epoch, item=name, purpose="semantic.pool.strong")
        strong, index = apply_strong(picture, draw_strong(rng, weak.crop, self.config.strong))
        index = np.where((index >= 0) & inside.ravel()[index.clip(0)], index, -1)
        return name, picture, strong, pseudo, torch.from_numpy(index.astype(np.int64))


class _Order:
    """The rows that a worker reads in each step, over all epochs."""

    def __init__(
        self,
        rows: Sequence[Rows],
        block_rows: int | None,
        batch: int,
        config: SemanticStreamConfig,
        item: str,
        rank: int,
        world: int,
        *,
        before: int = 0,
    ):
        """Divide the rows into lanes; with more workers than lanes, the workers share the rows of a step one by one.

        ``before`` is the number of rows of another kind in the step, which the workers share first.
        """
        self._blocks = [block for part, numbers in enumerate(rows) for block in _blocks(part, numbers, block_rows)]
        self._counts = [len(numbers) for _, numbers in self._blocks]
        self._lane_count = math.gcd(batch, config.lanes)
        check_lanes(self._lane_count, batch)
        self._rows_per_lane = batch // self._lane_count
        by_lane = world <= self._lane_count
        self._lanes = range(rank, self._lane_count, world) if by_lane else range(self._lane_count)
        self._own = slice(None) if by_lane else slice((rank - before) % world, None, world)
        self._steps = steps_per_epoch(sum(self._counts), self._lane_count, batch)
        self._seed = int(keyed_rng(config.seed or 0, item=item, purpose="semantic.order").integers(2**31))
        self._order = functools.lru_cache(1)(self._epoch_order)

    def row_keys(self, step: int) -> list[RowKey]:
        epoch, number = divmod(step, self._steps)
        order, take = self._order(epoch), self._rows_per_lane
        lane_rows = [row for lane in self._lanes for row in order.rows(lane, number * take, take)]
        return [
            (epoch, self._blocks[block][0], int(self._blocks[block][1][row])) for block, row in lane_rows[self._own]
        ]

    def _epoch_order(self, epoch: int) -> EpochOrder:
        return EpochOrder(self._counts, seed=self._seed, epoch=epoch, lanes=self._lane_count)


def _blocks(part: int, rows: Rows, block_rows: int | None) -> list[tuple[int, Rows]]:
    """Divide the rows of a part into blocks, which are read and shuffled together; None keeps the part whole."""
    if block_rows is None or not len(rows):
        return [(part, rows)]
    ends = np.arange(block_rows, int(rows.max()) + 1, block_rows)
    return [(part, numbers) for numbers in np.split(rows, np.searchsorted(rows, ends))]


def _collate(items: Iterable[Sample]) -> tuple[tuple[str, ...], list[Tensor]]:
    """Stack the fields of some pictures; images [H,W,3] become [B,3,H,W]."""
    names, *fields = zip(*items, strict=True)
    stacked = []
    for values in fields:
        batch = torch.stack([torch.as_tensor(value) for value in values])
        stacked.append(batch.permute(0, 3, 1, 2).contiguous() if batch.ndim == 4 else batch)
    return names, stacked
