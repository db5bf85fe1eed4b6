"""Feature pyramids as nested lists, and the operations on them that all learners share.

``Features[stage][map]`` is a tensor ``[B,C,h,w]``. The four stages have reductions 4, 8, 16 and 32; the maps of a stage
are in forward order. A stage that a learner does not use is an empty list.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Features = list[list[Tensor]]

REDUCTIONS = (4, 8, 16, 32)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in [0, 1] that backbones expect their images to be normalised with."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue in [0, 1]."""


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``[B,C,h,w]`` bilinearly with aligned corners. A tensor of the right size is returned as it is."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def map_features(function: Callable[..., Tensor], *features: Features) -> Features:
    """Apply ``function`` to the corresponding maps of one or more pyramids."""
    return [[function(*maps) for maps in zip(*stages, strict=True)] for stages in zip(*features, strict=True)]


def split_features(features: Features, sizes: Sequence[int]) -> list[Features]:
    """Split a pyramid along the batch into pyramids of the given batch sizes. The results are views."""
    pieces = [[torch.split(m, list(sizes)) for m in stage] for stage in features]
    return [[[m[i] for m in stage] for stage in pieces] for i in range(len(sizes))]


def concat_features(features: Sequence[Features]) -> Features:
    """Concatenate pyramids along the batch."""
    return map_features(lambda *maps: torch.cat(maps), *features)


def take_features(features: Features, index: Tensor) -> Features:
    """Select items of the batch by a long tensor of indices, which may repeat."""
    return map_features(lambda m: m.index_select(0, index), features)


def take_shot(features: Features, shot: int, shots: int) -> Features:
    """Select one shot of every episode from a batch in which the shots of an episode are adjacent."""
    return features if shots == 1 else map_features(lambda m: m[shot::shots], features)
