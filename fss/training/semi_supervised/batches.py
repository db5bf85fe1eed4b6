"""A stream of batches from a collection, with labelled pictures and pictures of the pool.

The pool contains all usable pictures, whose labels are not used. The content of a step depends only on (seed, step) and
the number of lanes, not on workers, threads or resuming (see ``fss.training.lanes``). The labelled pictures and the
pool have separate orders and epochs. With ``cache_features`` the epochs repeat, and a batch holds features of the
network's frozen stages instead of pixels.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from fss.collection import MaskSet
from fss.core.arrays import IGNORE, Float32, UInt8
from fss.core.config import config_hash
from fss.core.prefetch import prefetch
from fss.core.rng import keyed_rng
from fss.models.semantic.network import LowerMaps
from fss.training.decode_pool import decoder_count
from fss.training.semi_supervised.batch_cache import Batch, BatchCache
from fss.training.semi_supervised.config import SemanticStreamConfig, StrongConfig
from fss.training.semi_supervised.mixing import DRAWS, cutmix_area, draw_mix, partner_offsets, paste
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.row_order import RowKey, RowOrder, count_rows
from fss.training.semi_supervised.rows import SemanticRows
from fss.training.semi_supervised.strong_augmentation import apply_strong, draw_strong, gather
from fss.training.semi_supervised.weak_augmentation import WeakView, apply_weak, apply_weak_to_labels, draw_weak

Sample = tuple[str | UInt8 | Float32 | Tensor, ...]
"""The fields of a batch for one picture, the image id first."""
Encoder = Callable[[Tensor], LowerMaps]
"""Returns the features of pictures, uint8 [B,3,H,W], below the layers that learn."""


class LabelledBatch(NamedTuple):
    """Labelled pictures after weak augmentation."""

    ids: tuple[str, ...]
    """Image ids."""
    pixels: Tensor | LowerMaps
    """uint8 [B,3,H,W], or the features of these pictures."""
    truth: Tensor
    """uint8 [B,H,W], 255 ignored."""
    pseudo: Tensor
    """uint8 [B,H,W], pseudo-labels of the previous stage; all 255 where none are read."""
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
    pixels: Tensor | LowerMaps
    """uint8 [B,3,H,W], weakly augmented, or the features of these pictures."""
    strong: Tensor | LowerMaps
    """uint8 [B,3,H,W], ``pixels`` after strong augmentation and CutMix, or the features of these pictures."""
    pseudo: Tensor
    """uint8 [B,H,W], pseudo-labels of the previous stage for ``pixels``; all 255 where none are read."""
    source: Tensor
    """long [B,H,W], the flat index in ``pixels`` of each pixel of ``strong`` before mixing, or -1 (see
    ``warp_labels``)."""
    draws: Tensor
    """float32 [B,DRAWS], the random numbers of mixing (see ``draw_mix``); all 0 without mixing."""
    area: Tensor
    """bool [B,H,W], the pixels of CutMix, which are those of the partner in ``strong``."""
    partner: Tensor
    """long [B], how far the picture is that each one is mixed with (see ``partner_offsets``)."""

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """Return the share of a worker that gets no picture of the pool in a step."""
        pixels = torch.zeros(0, 3, height, width, dtype=torch.uint8)
        labels, empty = pixels[:, 0], torch.zeros(0)
        return cls((), pixels, pixels, labels, labels.long(), torch.zeros(0, DRAWS), labels.bool(), empty.long())


class SemanticBatch(NamedTuple):
    """The input of one step."""

    labelled: LabelledBatch
    """Labelled pictures."""
    pool: PoolBatch | None
    """Pictures of the pool; None in stage 1."""

    def to(self, device: torch.device) -> "SemanticBatch":
        """Return the batch with all tensors on ``device``."""
        ids, *tensors = self.labelled
        labelled = LabelledBatch(ids, *[tensor.to(device) for tensor in tensors])  # type: ignore[arg-type]
        if self.pool is None:
            return SemanticBatch(labelled, None)
        ids, *tensors = self.pool
        return SemanticBatch(labelled, PoolBatch(ids, *[tensor.to(device) for tensor in tensors]))  # type: ignore[arg-type]


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
        features: BatchCache | None = None,
    ):
        """Check the arguments and create the reading orders.

        Args:
            reader: reads pictures and class maps.
            rows: the labelled rows and the rows of the pool.
            config: augmentation, lanes and seed.
            truth: mask set with the labels of the labelled pictures.
            pseudo: mask set of the previous stage, with all pictures; None reads none.
            labelled: labelled pictures in a step, over all workers.
            pool: pictures of the pool in a step, over all workers; 0 in stage 1.
            rank: number of this worker, from 0.
            world: number of workers.
            features: keeps the batches of ``config.cache_features``. None: a new cache of ``config.cache_gb``.

        Raises:
            ValueError: there are too few pictures, the mask set is incomplete, or a worker would get no picture.
        """
        if labelled + pool < world:
            raise ValueError(
                f"{world} workers cannot share the {labelled + pool} pictures of a step; use fewer workers, or more "
                "pictures per step"
            )
        if pseudo is not None:
            pseudo.require_parts(rows.parts)
        self.config, self.reader = config, reader
        self._truth, self._pseudo, self._seed = truth, pseudo, config.seed or 0
        block_rows = reader.collection.block_rows
        pool_epochs = config.cache_features
        # As many labelled views as views of the pool, since both are kept.
        labelled_epochs = pool_epochs * math.ceil(count_rows(rows.pool) / max(1, count_rows(rows.labelled)))
        self._labelled = RowOrder(
            rows.labelled, block_rows, labelled, config, "labelled", rank, world, repeat=labelled_epochs
        )
        pool_rows = (rows.pool, block_rows, pool, config, "pool", rank, world)
        mixes = config.strong.mix != "none"
        self._pool = RowOrder(*pool_rows, before=labelled, repeat=pool_epochs, pairs=mixes) if pool else None
        self._features = (features or BatchCache(config.cache_gb)) if config.cache_features else None
        self._encode: Encoder | None = None

    def encode_with(self, encode: Encoder) -> None:
        """Set the function that computes the features of pictures, which ``cache_features`` needs."""
        self._encode = encode

    def batches(self, start: int, stop: int) -> Iterator[SemanticBatch]:
        """Yield this worker's share of each step from ``start`` to ``stop`` - 1; threads work ahead."""
        return prefetch(self._steps(start, stop), self.config.ahead)

    def _steps(self, start: int, stop: int) -> Iterator[SemanticBatch]:
        with ThreadPoolExecutor(decoder_count(self.config.decode_threads)) as threads:
            for step in range(start, stop):
                labelled = self._kept(self._labelled, step, partial(self._labelled_batch, threads))
                pool = None
                if self._pool is not None:
                    pool = self._kept(self._pool, step, partial(self._pool_batch, threads))
                yield SemanticBatch(labelled, pool)

    def _kept(self, order: RowOrder, step: int, make: Callable[[list[RowKey]], Batch]) -> Batch:
        """Return the batch of an order in a step; it is made once if features are kept."""
        if self._features is None:
            return make(order.row_keys(step))
        return self._features.get((*self._identity(order), order.position(step)), lambda: make(order.row_keys(step)))

    def _identity(self, order: RowOrder) -> tuple[str, ...]:
        """Return what a kept batch depends on besides its position."""
        strong = self.config.strong
        if order is self._pool:
            strong = replace(strong, labelled=False)
        elif not strong.labelled:
            strong = StrongConfig()
        config = replace(self.config, strong=strong)
        pseudo = "" if self._pseudo is None else self._pseudo.uri
        return order.item, config_hash(config, order.batch), pseudo

    def _labelled_batch(self, threads: ThreadPoolExecutor, keys: list[RowKey]) -> LabelledBatch:
        if not keys:
            empty = LabelledBatch.empty(*self.config.weak.crop)
            return empty._replace(pixels=self._encoded(empty.pixels))
        names, (pixels, *others) = _collate(threads.map(self._labelled_sample, keys))
        return LabelledBatch(names, self._encoded(pixels), *others)

    def _pool_batch(self, threads: ThreadPoolExecutor, keys: list[RowKey]) -> PoolBatch:
        if not keys:
            none = PoolBatch.empty(*self.config.weak.crop)
            return none._replace(pixels=self._encoded(none.pixels), strong=self._encoded(none.strong))
        assert self._pool is not None
        names, (pixels, strong, pseudo, source, draws) = _collate(threads.map(self._pool_sample, keys))
        partner = partner_offsets(len(names), self._pool.rows_per_lane if self.config.strong.mix != "none" else 1)
        area = torch.zeros_like(pseudo, dtype=torch.bool)
        if self.config.strong.mix == "cutmix":
            area = cutmix_area(draws, *self.config.weak.crop)
            strong = paste(strong, area, partner)
        return PoolBatch(names, self._encoded(pixels), self._encoded(strong), pseudo, source, draws, area, partner)

    def _encoded(self, pixels: Tensor | LowerMaps) -> Tensor | LowerMaps:
        if self._features is None or isinstance(pixels, LowerMaps):
            return pixels
        assert self._encode is not None, "the loop sets the encoder"
        return self._encode(pixels)

    def _labelled_sample(self, row_key: RowKey) -> Sample:
        epoch, part, row = row_key
        name, crop = self.reader.image_id(part, row), self.config.weak.crop
        rng = keyed_rng(self._seed, epoch=epoch, item=name, purpose="semantic.labelled.view")
        view = draw_weak(rng, self.config.weak)
        rgb = self.reader.picture(part, row)
        picture = apply_weak(rgb, view, crop)
        truth = apply_weak_to_labels(self.reader.labels(self._truth, part, row), view, crop)
        pseudo = self._pseudo_labels(part, row, view)
        inside = apply_weak_to_labels(np.zeros(rgb.shape[:2], np.uint8), view, crop) != IGNORE
        if self.config.strong.labelled:
            rng = keyed_rng(self._seed, epoch=epoch, item=name, purpose="semantic.labelled.strong")
            picture, index = apply_strong(picture, draw_strong(rng, crop, self.config.strong))
            truth, pseudo = (gather(labels.reshape(crop), index, IGNORE) for labels in (truth, pseudo))
            inside = gather(inside, index, False)
        return name, picture, truth, pseudo, torch.from_numpy(inside)

    def _pool_sample(self, row_key: RowKey) -> Sample:
        epoch, part, row = row_key
        name, weak, seed = self.reader.image_id(part, row), self.config.weak, self._seed
        view = draw_weak(keyed_rng(seed, epoch=epoch, item=name, purpose="semantic.pool.view"), weak)
        rgb = self.reader.picture(part, row)
        picture = apply_weak(rgb, view, weak.crop)
        pseudo = self._pseudo_labels(part, row, view)
        inside = apply_weak_to_labels(np.zeros(rgb.shape[:2], np.uint8), view, weak.crop) != IGNORE
        rng = keyed_rng(seed, epoch=epoch, item=name, purpose="semantic.pool.strong")
        strong, index = apply_strong(picture, draw_strong(rng, weak.crop, self.config.strong))
        index = np.where((index >= 0) & inside.ravel()[index.clip(0)], index, -1)
        draws = np.zeros(DRAWS, np.float32)
        if self.config.strong.mix != "none":
            rng = keyed_rng(seed, epoch=epoch, item=name, purpose="semantic.pool.mix")
            draws = draw_mix(rng, self.config.strong.mix_probability)
        return name, picture, strong, pseudo, torch.from_numpy(index.astype(np.int64)), draws

    def _pseudo_labels(self, part: int, row: int, view: WeakView) -> UInt8:
        crop = self.config.weak.crop
        if self._pseudo is None:
            return np.full(crop, IGNORE, np.uint8)
        return apply_weak_to_labels(self.reader.labels(self._pseudo, part, row), view, crop)


def _collate(items: Iterable[Sample]) -> tuple[tuple[str, ...], list[Tensor]]:
    """Stack the fields of some pictures; images [H,W,3] become [B,3,H,W]."""
    names, *fields = zip(*items, strict=True)
    stacked = []
    for values in fields:
        batch = torch.stack([torch.as_tensor(value) for value in values])
        stacked.append(batch.permute(0, 3, 1, 2).contiguous() if batch.ndim == 4 else batch)
    return names, stacked
