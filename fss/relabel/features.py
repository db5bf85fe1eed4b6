"""Feature vectors of images: the deepest backbone map, averaged within the mask."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.rng import keyed_rng
from fss.models.features import Features
from fss.models.segmenter import FewShotSegmenter


def deepest_map(segmenter: FewShotSegmenter, images: Tensor) -> Tensor:
    """Return the deepest map of the segmenter's backbone, [N,C,h,w], for normalised images [N,3,S,S]."""
    features: Features = segmenter.backbone(images)
    return next(stage[-1] for stage in reversed(features) if stage)


@torch.no_grad()
def pooled_features(segmenter: FewShotSegmenter, images: Tensor, masks: Tensor) -> Tensor:
    """Average the deepest backbone map within each mask.

    Args:
        segmenter: the segmenter whose backbone encodes the images.
        images: normalised images, float32 [N,3,S,S].
        masks: [N,S,S] in {0,1}; an empty mask stands for the whole image.

    Returns:
        Vectors of length 1, [N,C].
    """
    deepest = deepest_map(segmenter, images)
    weights = F.adaptive_avg_pool2d(masks[:, None].float(), (deepest.shape[-2], deepest.shape[-1]))
    weights = torch.where(weights.sum((2, 3), keepdim=True) > 0, weights, torch.ones_like(weights))
    return F.normalize((deepest * weights).sum((2, 3)) / weights.sum((2, 3)), dim=1)


def project(features: Tensor, dims: int, *, seed: int) -> Tensor:
    """Reduce features [N,C] to [N,dims] by a random projection that roughly preserves cosines.

    Features with at most ``dims`` channels are returned unchanged. Source: Johnson and Lindenstrauss, 1984; with 256
    dimensions a cosine is off by about 0.06.
    """
    channels = features.shape[1]
    if channels <= dims:
        return features
    rng = keyed_rng(seed, item=channels, purpose="relabel.projection")
    matrix = rng.standard_normal((channels, dims)).astype(np.float32)
    return F.normalize(features @ torch.from_numpy(matrix).to(features), dim=1)
