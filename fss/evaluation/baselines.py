"""What a trained segmenter has to beat: answers that need no training."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import UInt8
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch, Lru
from fss.evaluation.methods import FeatureCache
from fss.images.resize import mask_canvas
from fss.models.backbones.base import Backbone
from fss.models.features import Features, split_features


class AllForeground:
    """Says that every pixel belongs to the object."""

    name = "all foreground"
    passes = 0

    def predict(self, chunk: EvaluationBatch) -> Tensor:
        """Return ones [B, H, W]."""
        return torch.ones_like(chunk.target)


class SalientObject:
    """Segments whatever is salient in the query and ignores the supports."""

    name = "saliency of the query"
    passes = 0

    def __init__(self, estimate: Callable[[str, UInt8], UInt8]):
        """Take an estimator.

        Args:
            estimate: from image id and picture, uint8 [H, W, 3], to a mask, uint8 [H, W] with 1 on what is salient.
        """
        self._estimate = estimate
        self._kept: Lru[str, UInt8] = Lru(1e9)

    def predict(self, chunk: EvaluationBatch) -> Tensor:
        """Return the salient pixels of the queries, [B, H, W]."""
        height, width = chunk.target.shape[-2:]
        masks = [_squash(self._mask(name, chunk.pictures), height, width) for name in chunk.query_ids]
        return torch.from_numpy(np.stack(masks))

    def _mask(self, image_id: str, pictures: EpisodeImages) -> UInt8:
        """Return the mask at the picture's own size."""
        mask = self._kept.get(image_id)
        if mask is None:
            mask = self._estimate(image_id, pictures.reader.read(image_id).rgb)
            self._kept.put(image_id, mask, mask.nbytes)
        return mask


class UntrainedPrototype:
    """Compares each query cell with the supports' mean foreground and background on the backbone's features alone.

    On every level the features are pooled under the masks of all shots; the difference of the two cosines, resized and
    averaged over the levels, decides.
    """

    name = "untrained prototype"

    def __init__(
        self, backbone: Backbone, *, device: str | torch.device = "cpu", batch: int = 8, cache_gb: float = 2.0
    ):
        """Take a backbone as it is before any training; it is moved to ``device`` and put into evaluation mode."""
        self._backbone = backbone.to(device).eval()
        self._device = torch.device(device)
        self._pictures: EpisodeImages | None = None
        self._cache: FeatureCache[str] = FeatureCache(self._encode, batch=batch, limit_bytes=cache_gb * 1e9)

    @property
    def passes(self) -> int:
        """Images that the backbone has seen."""
        return self._cache.encoded

    @torch.no_grad()
    def predict(self, chunk: EvaluationBatch) -> Tensor:
        """Return masks [B, H, W]."""
        self._pictures = chunk.pictures
        names, count = chunk.query_ids + chunk.support_ids, len(chunk.episodes)
        query, support = split_features(self._cache.get(names), [count, len(names) - count])
        masks = chunk.support_masks.to(self._device)
        size = chunk.target.shape[-2:]
        scores = [_compare(q[-1], s[-1], masks, size) for q, s in zip(query, support, strict=True) if q]
        return (torch.stack(scores).mean(0) > 0).long()

    def _encode(self, names: Sequence[str]) -> Features:
        assert self._pictures is not None
        features: Features = self._backbone(self._pictures.images(names).to(self._device))
        return features


def _squash(mask: UInt8, height: int, width: int) -> UInt8:
    """Return a mask at the size at which it is scored: its own, or the network's square."""
    return mask if mask.shape == (height, width) else mask_canvas(mask, height)


def _compare(query: Tensor, support: Tensor, masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return cosine to the foreground minus cosine to the background, [B, *size].

    Args:
        query: [B, C, h, w].
        support: [B * K, C, h, w].
        masks: [B, K, H, W].
        size: of the result.
    """
    count, shots = masks.shape[:2]
    soft = F.interpolate(masks.flatten(0, 1)[:, None], support.shape[-2:], mode="area")
    maps, soft = support.reshape(count, shots, *support.shape[1:]), soft.reshape(count, shots, 1, *soft.shape[-2:])
    cosines = []
    for weight in (soft, 1 - soft):
        prototype = (maps * weight).sum((1, 3, 4)) / weight.sum((1, 3, 4)).clamp(min=1e-5)
        cosines.append(F.cosine_similarity(query, prototype[:, :, None, None], dim=1))
    difference = (cosines[0] - cosines[1])[:, None]
    return F.interpolate(difference, tuple(size), mode="bilinear", align_corners=False)[:, 0]
