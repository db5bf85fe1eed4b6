"""Feature pyramids as plain nested lists, and the few operations on them that every learner needs.

``Features[stage][map]`` is a tensor ``[B,C,h,w]``. Stages stand at reductions 4, 8, 16 and 32 of the image, shallowest
first; the maps of a stage stand in forward order. A stage that a learner does not use is an empty list.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Features = list[list[Tensor]]

REDUCTIONS = (4, 8, 16, 32)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``[B,C,h,w]`` bilinearly with aligned corners, up or down; the tensor itself where nothing changes."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def map_features(function: Callable[..., Tensor], *features: Features) -> Features:
    """Apply ``function`` to the corresponding maps of one or more pyramids."""
    return [[function(*maps) for maps in zip(*stages, strict=True)] for stages in zip(*features, strict=True)]


def split_features(features: Features, sizes: Sequence[int]) -> list[Features]:
    """Cut a pyramid along the batch into pyramids of the given batch sizes (views, no copies)."""
    pieces = [[torch.split(m, list(sizes)) for m in stage] for stage in features]
    return [[[m[i] for m in stage] for stage in pieces] for i in range(len(sizes))]


def concat_features(features: Sequence[Features]) -> Features:
    """Join pyramids along the batch, for instance images that were encoded one by one."""
    return map_features(lambda *maps: torch.cat(maps), *features)


def take_features(features: Features, index: Tensor) -> Features:
    """Select (and repeat) items of the batch by a long tensor of positions."""
    return map_features(lambda m: m.index_select(0, index), features)


def take_shot(features: Features, shot: int, shots: int) -> Features:
    """Select one shot of every episode from supports whose shots are adjacent."""
    return features if shots == 1 else map_features(lambda m: m[shot::shots], features)
