"""Methods for evaluation: the protocol, and a segmenter that encodes each distinct image once."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor

from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch
from fss.models.config import Fusion, Precision, Scales
from fss.models.features import Features, concat_features, split_features
from fss.models.precision import autocast
from fss.models.scales import Decode, decode_in_scales
from fss.models.segmenter import FewShotSegmenter
from fss.models.shot_fusion import fuse
from fss.models.speed import prepare_inference, shared_copy

Key = TypeVar("Key", bound=Hashable)
Encoded = tuple[Features, Features, Tensor, torch.Size]
"""Embedded maps of queries and supports, masks of the supports, and the size of the logits."""


class Method(Protocol):
    """A method that segments the queries of episodes; without a backbone of its own, if nothing else is said."""

    name: str
    """Name in reports."""
    tiled: int = 0
    """Number of queries that were seen in tiles too so far."""
    flip: bool = False
    """Whether queries are seen mirrored too."""
    refine: bool = False
    """Whether outlines follow the edges of the queries."""
    backend: str = ""
    """What runs the backbone, in reports; empty without one."""

    @property
    def passes(self) -> int:
        """Number of images that went through the backbone so far."""
        return 0

    def predict(self, batch: EvaluationBatch) -> Tensor:
        """Return masks at the size of ``batch.target``, [B, H, W] in {0, 1}."""


class FeatureCache(Generic[Key]):
    """A cache of features of single images by key; missing images are encoded in batches."""

    def __init__(self, encode: Callable[[Sequence[Key]], Features], *, batch: int, limit_bytes: float):
        """Create an empty cache.

        Args:
            encode: returns the features of the images of some keys.
            batch: images per call of ``encode``.
            limit_bytes: size of the cache in bytes; a single request may exceed it while it is served.
        """
        self._encode, self._batch = encode, batch
        self._cache: LRUCache[Key, Features] = LRUCache(limit_bytes, getsizeof=_bytes)
        self.encoded = 0

    def get(self, keys: Sequence[Key]) -> Features:
        """Return the features of ``keys``, concatenated along the batch in their order."""
        by_key: dict[Key, Features] = {}
        missing: list[Key] = []
        for key in dict.fromkeys(keys):
            features = self._cache.get(key)
            if features is None:
                missing.append(key)
            else:
                by_key[key] = features
        for first in range(0, len(missing), self._batch):
            batch = missing[first : first + self._batch]
            # Clones, because a view of a batch would keep the whole batch in memory.
            for key, features in zip(batch, split_features(self._encode(batch), [1] * len(batch)), strict=True):
                by_key[key] = [[m.clone() for m in stage] for stage in features]
        self.encoded += len(missing)
        for key in missing:
            with suppress(ValueError):  # features that alone exceed the limit are not stored
                self._cache[key] = by_key[key]
        return concat_features([by_key[key] for key in keys])


class SegmenterMethod:
    """A few-shot segmenter as a method."""

    def __init__(
        self,
        segmenter: FewShotSegmenter,
        *,
        name: str = "model",
        fusion: Fusion = "joint",
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        batch: int = 8,
        cache_gb: float = 2.0,
        scales: Scales = "whole",
        flip: bool = False,
        refine: bool = False,
    ):
        """Wrap a segmenter.

        Args:
            segmenter: the model; it is moved to ``device`` and put into evaluation mode.
            name: name in reports.
            fusion: how the predictions of K shots are combined.
            device: where the model runs.
            precision: of the model's arithmetic; with ``bf16`` the passes run under autocast.
            batch: images per pass of the backbone.
            cache_gb: size of the feature cache, in gigabytes of the device's memory.
            scales: scales in which queries are seen (see ``fss.models.scales``).
            flip: whether queries are seen mirrored too.
            refine: whether outlines follow the edges of the queries, as ``Examples.predict`` draws them; only with the
                fusion ``joint``, because the other rules give no probability.
        """
        assert fusion == "joint" or not refine, "masks that shots have voted for have no probability to refine"
        self.segmenter = segmenter.to(device).eval()
        self.name, self.fusion, self.device, self.precision = name, fusion, torch.device(device), precision
        self.backend = "PyTorch"
        self._pictures: EpisodeImages | None = None
        self.scales, self.flip, self.refine, self.tiled = scales, flip, refine, 0
        masked = segmenter.needs_support_images
        limit = cache_gb * 1e9 / (1 + masked + flip + (scales != "whole"))
        self._flipped: FeatureCache[str] = FeatureCache(self._encode_flipped, batch=batch, limit_bytes=limit)
        self._tiles: FeatureCache[tuple[str, int]] = FeatureCache(self._encode_tiles, batch=batch, limit_bytes=limit)
        self._plain: FeatureCache[str] = FeatureCache(self._encode_images, batch=batch, limit_bytes=limit)
        self._masked: FeatureCache[tuple[str, int]] | None = None
        if masked:
            self._masked = FeatureCache(self._encode_masked, batch=batch, limit_bytes=limit)

    def prepare(self) -> None:
        """Choose the fastest path for the segmenter."""
        self.segmenter = shared_copy(self.segmenter)
        path = prepare_inference(self.segmenter, self.precision)
        self.backend, self.precision = path.name, path.autocast

    @property
    def passes(self) -> int:
        """Number of images that went through the backbone, masked and mirrored ones, crops and tiles included."""
        views = self._plain.encoded + self._flipped.encoded + self._tiles.encoded
        return views + (self._masked.encoded if self._masked else 0)

    @torch.no_grad()
    def predict(self, batch: EvaluationBatch) -> Tensor:
        """Return masks at the size of ``batch.target``, [B, H, W] in {0, 1}; the logits are resized to it."""
        encoded = self.encode(batch)
        with autocast(self.device, self.precision):
            logits, tiled = self._decode(self.segmenter.decoder(self.fusion), batch, encoded)
            self.tiled += len(tiled)
            return self._refined(_probability(logits), batch) if self.refine else fuse(logits, self.fusion)

    @torch.no_grad()
    def answer(self, batch: EvaluationBatch) -> tuple[Tensor, Tensor]:
        """Return masks like :meth:`predict`, with jointly decoded shots, and the signals of the answers ``[B,S]``."""
        query, support, masks, size = self.encode(batch)
        with autocast(self.device, self.precision):
            logits, _ = self._decode(self.segmenter.decode, batch, (query, support, masks, size))
        probability = _probability(logits)
        answers = self._refined(probability, batch) if self.refine else (probability > 0.5).long()
        return answers, self.segmenter.signals(probability, query, support, masks)

    def _refined(self, probability: Tensor, batch: EvaluationBatch) -> Tensor:
        """Return masks [B,H,W] of 0 and 1 whose outlines follow the edges of the queries."""
        from fss.relabel.edge_refinement import refine_outlines  # imports numba

        maps = zip(probability.cpu().numpy(), batch.query_pictures(), strict=True)
        return torch.from_numpy(np.stack([refine_outlines(soft, rgb) > 0.5 for soft, rgb in maps])).long()

    def _decode(self, decode: Decode, batch: EvaluationBatch, encoded: Encoded) -> tuple[Tensor, list[int]]:
        return decode_in_scales(
            decode,
            *encoded,
            scales=self.scales,
            encode_tiles=lambda rows, tile: self._tile_queries([batch.query_ids[row] for row in rows], tile),
            encode_flipped=(lambda: self._flip_queries(batch.query_ids)) if self.flip else None,
        )

    @torch.no_grad()
    def encode(self, batch: EvaluationBatch) -> Encoded:
        """Return the arguments of the segmenter's ``decide`` and ``shot_logits``: query, support, masks and size."""
        if self._pictures is not None and self._pictures is not batch.pictures:
            raise ValueError(
                "a SegmenterMethod caches the features of one evaluation; create another one for other images"
            )
        self._pictures = batch.pictures
        with autocast(self.device, self.precision):
            return self._encode(batch)

    def _encode(self, batch: EvaluationBatch) -> Encoded:
        size, masks = batch.target.shape[-2:], batch.support_masks.to(self.device)
        count, names = len(batch.episodes), batch.query_ids + batch.support_ids
        if self._masked is None:
            query, support = split_features(self._plain.get(names), [count, len(names) - count])
            images = masks.new_empty(0)  # the segmenter does not need the pixels again
            support = self.segmenter.encode_support(images, masks.flatten(0, 1), support)
        else:
            query = self._plain.get(batch.query_ids)
            classes = [episode.class_id for episode in batch.episodes for _ in episode.support_ids]
            support = self._masked.get(list(zip(batch.support_ids, classes, strict=True)))
        return self.segmenter.encode_query(masks.new_empty(0), query), support, masks, size

    def _tile_queries(self, names: Sequence[str], tile: int) -> Features:
        return self.segmenter.encode_query(torch.empty(0), self._tiles.get([(name, tile) for name in names]))

    def _flip_queries(self, names: Sequence[str]) -> Features:
        return self.segmenter.encode_query(torch.empty(0), self._flipped.get(names))

    def _encode_flipped(self, names: Sequence[str]) -> Features:
        assert self._pictures is not None
        return self.segmenter.encode_images(self._pictures.images(names).flip(-1).to(self.device))

    def _encode_tiles(self, keys: Sequence[tuple[str, int]]) -> Features:
        assert self._pictures is not None
        names, numbers = zip(*keys, strict=True)
        return self.segmenter.encode_images(self._pictures.tiles(names, numbers).to(self.device))

    def _encode_images(self, names: Sequence[str]) -> Features:
        assert self._pictures is not None
        return self.segmenter.encode_images(self._pictures.images(names).to(self.device))

    def _encode_masked(self, keys: Sequence[tuple[str, int]]) -> Features:
        assert self._pictures is not None
        names = [name for name, _ in keys]
        masks = (self._pictures.masks(names, [c for _, c in keys]) == 1).float().to(self.device)
        images = self._pictures.images(names).to(self.device)
        plain = self._plain.get(names) if self.segmenter.masking.needs_plain else None
        return self.segmenter.encode_support(images, masks, plain)


def _probability(logits: Tensor) -> Tensor:
    """Return the probability of the object, float32 [B,H,W], of logits [B,2,H,W]."""
    return logits.float().softmax(1)[:, 1]


def _bytes(features: Features) -> float:
    return float(sum(m.numel() * m.element_size() for stage in features for m in stage))
