"""Batches of labelled pictures and of the pool, streamed from a collection.

The content of a step depends on (seed, step) and the lanes alone, never on workers, threads or resume (see ``lanes``).
The labelled pictures and the pool each have an order and epochs of their own.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fss.collection import MaskSet
from fss.core.arrays import IGNORE, UInt8
from fss.core.rng import keyed_rng
from fss.training.lanes import EpochOrder, check_lanes, steps_per_epoch
from fss.training.prefetch import prefetch
from fss.training.semi_supervised.config import SemanticStreamConfig
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import Rows, SemanticRows
from fss.training.semi_supervised.strong_augmentation import apply_strong, draw_strong
from fss.training.semi_supervised.weak_augmentation import apply_weak, apply_weak_to_labels, draw_weak

Place = tuple[int, int, int]
"""Epoch, part number, row."""
Seen = tuple[str, UInt8, UInt8, UInt8, Tensor]
"""One picture's fields of a batch."""


class LabelledBatch(NamedTuple):
    """Pictures whose truth is known, weakly augmented."""

    ids: tuple[str, ...]
    """Their identities."""
    pixels: Tensor
    """uint8 [B,3,H,W]."""
    truth: Tensor
    """uint8 [B,H,W], 255 ignored."""
    pseudo: Tensor
    """uint8 [B,H,W] masks of the stage before; all 255 in the first stage."""
    inside: Tensor
    """bool [B,H,W]: no margin."""


class PoolBatch(NamedTuple):
    """Pictures of the pool, as teacher and student see them."""

    ids: tuple[str, ...]
    """Their identities."""
    pixels: Tensor
    """uint8 [B,3,H,W], weakly augmented."""
    strong: Tensor
    """uint8 [B,3,H,W], the same strongly augmented."""
    pseudo: Tensor
    """uint8 [B,H,W] masks of the stage before, as the weak view has them."""
    source: Tensor
    """long [B,H,W]: where each pixel of ``strong`` lies in ``pixels``, -1 outside (see ``strong.warp_labels``)."""


class SemanticBatch(NamedTuple):
    """What one step sees."""

    labelled: LabelledBatch
    """Pictures with truth."""
    pool: PoolBatch | None
    """Pictures without; None in the first stage."""

    def to(self, device: torch.device) -> "SemanticBatch":
        """Move all tensors."""
        labelled = LabelledBatch(self.labelled.ids, *(tensor.to(device) for tensor in self.labelled[1:]))
        if self.pool is None:
            return SemanticBatch(labelled, None)
        return SemanticBatch(labelled, PoolBatch(self.pool.ids, *(tensor.to(device) for tensor in self.pool[1:])))


class SemanticStream:
    """Batches for a stage of the three-stage framework."""

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
        """Prepare the orders.

        Args:
            reader: where pixels come from.
            rows: which pictures are labelled, which are the pool.
            config: augmentation, lanes, seed.
            truth: labels of the labelled pictures.
            pseudo: masks of the stage before, of all pictures; None in the first stage.
            labelled: labelled pictures in a step, over all workers.
            pool: pictures of the pool in a step, over all workers; 0 for none.
            rank: this worker.
            world: all workers.

        Raises:
            ValueError: too few pictures, an incomplete mask set, or batches that the workers cannot share.
        """
        if pool and pseudo is None:
            raise ValueError("a pool is learned from with masks of the stage before; give pseudo, or pool=0")
        if pseudo is not None and (missing := sorted(set(rows.parts) - pseudo.finished_parts())):
            raise ValueError(
                f"mask set {pseudo.name!r} lacks {len(missing)} of {len(rows.parts)} parts ({missing[0]}, ...); run "
                "the job that makes it again, it goes on where it stopped"
            )
        self.config, self.reader = config, reader
        self._truth, self._pseudo = truth, pseudo
        self._labelled = _Order(rows.labelled, labelled, config, "labelled", rank, world)
        self._pool = _Order(rows.pool, pool, config, "pool", rank, world) if pool else None

    def batches(self, start: int, stop: int) -> Iterator[SemanticBatch]:
        """Yield this worker's share of the steps ``start`` to ``stop`` - 1, made ahead in threads."""
        return prefetch(self._steps(start, stop), self.config.ahead)

    def _steps(self, start: int, stop: int) -> Iterator[SemanticBatch]:
        with ThreadPoolExecutor(self.config.decode_threads) as threads:
            for step in range(start, stop):
                names, tensors = _collate(threads.map(self._see_labelled, self._labelled.places(step)))
                labelled, pool = LabelledBatch(names, *tensors), None
                if self._pool is not None:
                    names, tensors = _collate(threads.map(self._see_pool, self._pool.places(step)))
                    pool = PoolBatch(names, *tensors)
                yield SemanticBatch(labelled, pool)

    def _see_labelled(self, place: Place) -> Seen:
        epoch, part, row = place
        name, crop = self.reader.image_id(part, row), self.config.weak.crop
        rng = keyed_rng(self.config.seed, epoch=epoch, item=name, purpose="semantic.labelled.view")
        view = draw_weak(rng, self.config.weak)
        rgb = self.reader.picture(part, row)
        truth = apply_weak_to_labels(self.reader.labels(self._truth, part, row), view, crop)
        pseudo = np.full(crop, IGNORE, np.uint8)
        if self._pseudo is not None:
            pseudo = apply_weak_to_labels(self.reader.labels(self._pseudo, part, row), view, crop)
        inside = apply_weak_to_labels(np.zeros(rgb.shape[:2], np.uint8), view, crop) != IGNORE
        return name, apply_weak(rgb, view, crop), truth, pseudo, torch.from_numpy(inside)

    def _see_pool(self, place: Place) -> Seen:
        epoch, part, row = place
        assert self._pseudo is not None
        name, weak = self.reader.image_id(part, row), self.config.weak
        view = draw_weak(keyed_rng(self.config.seed, epoch=epoch, item=name, purpose="semantic.pool.view"), weak)
        rgb = self.reader.picture(part, row)
        picture = apply_weak(rgb, view, weak.crop)
        pseudo = apply_weak_to_labels(self.reader.labels(self._pseudo, part, row), view, weak.crop)
        inside = apply_weak_to_labels(np.zeros(rgb.shape[:2], np.uint8), view, weak.crop) != IGNORE
        rng = keyed_rng(self.config.seed, epoch=epoch, item=name, purpose="semantic.pool.strong")
        strong, index = apply_strong(picture, draw_strong(rng, weak.crop, self.config.strong))
        index = np.where((index >= 0) & inside.ravel()[index.clip(0)], index, -1)
        return name, picture, strong, pseudo, torch.from_numpy(index.astype(np.int64))


class _Order:
    """The rows that a worker reads in each step, epoch after epoch."""

    def __init__(
        self, rows: Sequence[Rows], batch: int, config: SemanticStreamConfig, item: str, rank: int, world: int
    ):
        self._rows, self._counts = rows, [len(part) for part in rows]
        self._total = math.gcd(batch, config.lanes)
        check_lanes(self._total, batch, world)
        self._take = batch // self._total
        self._lanes = range(rank, self._total, world)
        self._steps = steps_per_epoch(sum(self._counts), self._total, batch)
        self._seed = int(keyed_rng(config.seed, item=item, purpose="semantic.order").integers(2**31))
        self._epoch, self._order = -1, None

    _order: EpochOrder | None

    def places(self, step: int) -> list[Place]:
        epoch, number = divmod(step, self._steps)
        if self._order is None or epoch != self._epoch:
            self._epoch, self._order = epoch, EpochOrder(self._counts, seed=self._seed, epoch=epoch, lanes=self._total)
        drawn = [place for lane in self._lanes for place in self._order.rows(lane, number * self._take, self._take)]
        return [(epoch, part, int(self._rows[part][row])) for part, row in drawn]


def _collate(items: Iterable[Seen]) -> tuple[tuple[str, ...], list[Tensor]]:
    """Stack the fields of some pictures; colours come before rows."""
    names, *fields = zip(*items, strict=True)
    stacked = []
    for values in fields:
        together = torch.stack([torch.as_tensor(value) for value in values])
        stacked.append(together.permute(0, 3, 1, 2).contiguous() if together.ndim == 4 else together)
    return names, stacked
