"""Methods that can be evaluated, first of all a segmenter that encodes each distinct image once."""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch, Lru
from fss.models.config import Fusion
from fss.models.features import Features, concat_features, split_features
from fss.models.segmenter import FewShotSegmenter

Key = TypeVar("Key", bound=Hashable)


class Method(Protocol):
    """Anything that answers episodes."""

    name: str
    """Its row in the table."""

    @property
    def passes(self) -> int:
        """Images that went through its backbone so far."""

    def predict(self, chunk: EvaluationBatch) -> Tensor:
        """Return masks of the size of ``chunk.target``, [B, H, W]; 1 is foreground."""


class FeatureCache(Generic[Key]):
    """Features of single images by key, encoded in batches when they are missing."""

    def __init__(self, encode: Callable[[Sequence[Key]], Features], *, batch: int, limit_bytes: float):
        """Open a cache.

        Args:
            encode: encodes the images of some keys together.
            batch: images to encode at once.
            limit_bytes: bytes of features to keep; what a request needs is always at hand together.
        """
        self._encode, self._batch = encode, batch
        self._kept: Lru[Key, Features] = Lru(limit_bytes)
        self.encoded = 0

    def get(self, keys: Sequence[Key]) -> Features:
        """Return the features of ``keys``, joined in their order."""
        found: dict[Key, Features] = {}
        missing: list[Key] = []
        for key in dict.fromkeys(keys):
            features = self._kept.get(key)
            if features is None:
                missing.append(key)
            else:
                found[key] = features
        for first in range(0, len(missing), self._batch):
            chosen = missing[first : first + self._batch]
            # Copies: a slice of a batch would keep the whole batch in memory.
            for key, features in zip(chosen, split_features(self._encode(chosen), [1] * len(chosen)), strict=True):
                found[key] = [[m.clone() for m in stage] for stage in features]
        self.encoded += len(missing)
        for key in missing:
            self._kept.put(key, found[key], _bytes(found[key]))
        return concat_features([found[key] for key in keys])


class SegmenterMethod:
    """A segmenter; ``passes`` counts the images that went through its backbone."""

    def __init__(
        self,
        segmenter: FewShotSegmenter,
        *,
        name: str = "model",
        fusion: Fusion = "joint",
        device: str | torch.device = "cpu",
        batch: int = 8,
        cache_gb: float = 2.0,
    ):
        """Wrap a segmenter.

        Args:
            segmenter: the model; it is moved to ``device`` and put into evaluation mode.
            name: its row in the table.
            fusion: how K shots become one answer.
            device: where it computes.
            batch: images that the backbone takes at once.
            cache_gb: features to keep, in gigabytes of the device's memory.
        """
        self.segmenter = segmenter.to(device).eval()
        self.name, self.fusion, self.device = name, fusion, torch.device(device)
        self._pictures: EpisodeImages | None = None
        masked = segmenter.masking.needs_masked
        limit = cache_gb * 1e9 / (2 if masked else 1)
        self._plain: FeatureCache[str] = FeatureCache(self._encode_images, batch=batch, limit_bytes=limit)
        self._masked: FeatureCache[tuple[str, int]] | None = None
        if masked:
            self._masked = FeatureCache(self._encode_masked, batch=batch, limit_bytes=limit)

    @property
    def passes(self) -> int:
        """Images that the backbone has seen, masked ones included."""
        return self._plain.encoded + (self._masked.encoded if self._masked else 0)

    @torch.no_grad()
    def predict(self, chunk: EvaluationBatch) -> Tensor:
        """Return masks of the size of ``chunk.target``, [B, H, W]; the logits are resized to it."""
        return self.segmenter.decide(*self.encode(chunk), self.fusion)

    @torch.no_grad()
    def encode(self, chunk: EvaluationBatch) -> tuple[Features, Features, Tensor, torch.Size]:
        """Return what the segmenter's ``decide`` and ``shot_logits`` take: query, support, masks and size."""
        if self._pictures is not None and self._pictures is not chunk.pictures:
            raise ValueError("a SegmenterMethod keeps features of one evaluation; make another one for other pictures")
        self._pictures = chunk.pictures
        size, masks = chunk.target.shape[-2:], chunk.support_masks.to(self.device)
        count, names = len(chunk.episodes), chunk.query_ids + chunk.support_ids
        if self._masked is None:
            query, support = split_features(self._plain.get(names), [count, len(names) - count])
            images = masks.new_empty(0)  # only a masked pass would look at the pictures again
            support = self.segmenter.encode_support(images, masks.flatten(0, 1), support)
        else:
            query = self._plain.get(chunk.query_ids)
            classes = [episode.class_id for episode in chunk.episodes for _ in episode.support_ids]
            support = self._masked.get(list(zip(chunk.support_ids, classes, strict=True)))
        return self.segmenter.encode_query(masks.new_empty(0), query), support, masks, size

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


def _bytes(features: Features) -> float:
    return float(sum(m.numel() * m.element_size() for stage in features for m in stage))
