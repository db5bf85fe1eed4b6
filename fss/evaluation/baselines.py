"""Baselines without training, which a trained segmenter has to beat."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np
import torch
from cachetools import LRUCache, cachedmethod
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import UInt8
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch
from fss.evaluation.methods import FeatureCache, Method, SegmenterMethod
from fss.images.resize import mask_canvas
from fss.models.backbones.base import Backbone
from fss.models.config import DensityConfig, Precision, SegmenterConfig
from fss.models.features import Features, split_features
from fss.models.segmenter import FewShotSegmenter

DENSITY = "density ratio, untrained"
"""Name of the training-free learner density as a baseline."""
DENSITY_PRIOR = "density prior, untrained"
"""Name of the density prior of a model as a baseline."""


class AllForeground(Method):
    """Predicts foreground everywhere."""

    name = "all foreground"

    def predict(self, batch: EvaluationBatch) -> Tensor:
        """Return ones [B, H, W]."""
        return torch.ones_like(batch.target)


class SalientObject(Method):
    """Predicts the salient object of the query and ignores the supports."""

    name = "saliency of the query"

    def __init__(self, estimate: Callable[[str, UInt8], UInt8]):
        """Wrap an estimator.

        Args:
            estimate: returns a mask, uint8 [H, W] with 1 on the salient object, for an image id and an image, uint8
                [H, W, 3].
        """
        self._estimate = estimate
        self._cache: LRUCache[str, UInt8] = LRUCache(1e9, getsizeof=attrgetter("nbytes"))

    def predict(self, batch: EvaluationBatch) -> Tensor:
        """Return the masks of the salient objects of the queries, [B, H, W] in {0, 1}."""
        height, width = batch.target.shape[-2:]
        masks = [_resize_mask(self._mask(name, batch.pictures), height, width) for name in batch.query_ids]
        return torch.from_numpy(np.stack(masks))

    @cachedmethod(attrgetter("_cache"), key=lambda _, image_id, pictures: image_id)
    def _mask(self, image_id: str, pictures: EpisodeImages) -> UInt8:
        """Return the mask at the original size of the image."""
        return self._estimate(image_id, pictures.reader.read(image_id).rgb)


class UntrainedPrototype(Method):
    """Compares each cell of the query with the mean foreground and background features of the supports.

    The prototypes are averages of a level's backbone features under the masks of all shots and outside of them. A pixel
    is foreground where the difference of the two cosines, resized and averaged over the levels, is above 0.
    """

    name = "untrained prototype"
    backend = "PyTorch"

    def __init__(
        self, backbone: Backbone, *, device: str | torch.device = "cpu", batch: int = 8, cache_gb: float = 2.0
    ):
        """Wrap a backbone.

        Args:
            backbone: the backbone before any training; it is moved to ``device`` and put into evaluation mode.
            device: where the backbone runs.
            batch: images per pass of the backbone.
            cache_gb: size of the feature cache, in gigabytes of the device's memory.
        """
        self._backbone = backbone.to(device).eval()
        self._device = torch.device(device)
        self._pictures: EpisodeImages | None = None
        self._cache: FeatureCache[str] = FeatureCache(self._encode, batch=batch, limit_bytes=cache_gb * 1e9)

    @property
    def passes(self) -> int:
        """Number of images that went through the backbone."""
        return self._cache.encoded

    @torch.no_grad()
    def predict(self, batch: EvaluationBatch) -> Tensor:
        """Return the predicted masks, [B, H, W] in {0, 1}."""
        self._pictures = batch.pictures
        names, count = batch.query_ids + batch.support_ids, len(batch.episodes)
        query, support = split_features(self._cache.get(names), [count, len(names) - count])
        masks = batch.support_masks.to(self._device)
        size = batch.target.shape[-2:]
        scores = [_compare(q[-1], s[-1], masks, size) for q, s in zip(query, support, strict=True) if q]
        return (torch.stack(scores).mean(0) > 0).long()

    def _encode(self, names: Sequence[str]) -> Features:
        assert self._pictures is not None
        features: Features = self._backbone(self._pictures.images(names).to(self._device))
        return features


BASELINES = (AllForeground.name, SalientObject.name, UntrainedPrototype.name, DENSITY)
"""Names of the baselines of every evaluation of a trained segmenter."""


def is_untrained_density(segmenter: FewShotSegmenter) -> bool:
    """Return whether a segmenter is the baseline of :func:`untrained_density` itself."""
    config = segmenter.config
    return config.learner == "density" and config.density == DensityConfig() and segmenter.prior is None


def untrained_density(
    segmenter: FewShotSegmenter,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    refine: bool = False,
) -> SegmenterMethod:
    """Return the training-free learner ``density`` with default settings and without a saliency prior as a baseline.

    Args:
        segmenter: a segmenter whose backbone the baseline takes, with its weights.
        device: where the baseline runs.
        precision: of its arithmetic.
        refine: whether outlines follow the edges of the queries.
    """
    source = segmenter.config
    config = SegmenterConfig(learner="density", backbone=source.backbone, image_size=source.image_size, frozen=True)
    density = FewShotSegmenter.from_config(config)
    density.backbone.load_state_dict(segmenter.backbone.state_dict())
    return SegmenterMethod(density, name=DENSITY, device=device, precision=precision, refine=refine)


def untrained_density_prior(
    segmenter: FewShotSegmenter,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    refine: bool = False,
) -> SegmenterMethod | None:
    """Return the density prior of a MaskSplit alone, as a baseline.

    None: the segmenter has no such prior, or it is the baseline of :func:`untrained_density`. Arguments as there.
    """
    source = segmenter.config
    if not source.density_prior or (segmenter.prior is None and source.density == DensityConfig()):
        return None
    config = replace(source, learner="density", density_prior=False, backbone_weights=None, saliency_prior=None)
    density = FewShotSegmenter.from_config(config, prior=segmenter.prior)
    density.backbone.load_state_dict(segmenter.backbone.state_dict())
    return SegmenterMethod(density, name=DENSITY_PRIOR, device=device, precision=precision, refine=refine)


def _resize_mask(mask: UInt8, height: int, width: int) -> UInt8:
    """Return a mask at the size of scoring: unchanged, or resized to the square of the network."""
    return mask if mask.shape == (height, width) else mask_canvas(mask, height)


def _compare(query: Tensor, support: Tensor, masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return the cosine with the foreground minus the cosine with the background, [B, *size].

    Args:
        query: features of the queries, [B, C, h, w].
        support: features of the supports, [B * K, C, h, w].
        masks: masks of the supports, [B, K, H, W] in {0, 1}.
        size: height and width of the result.
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
