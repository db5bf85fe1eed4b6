"""Masking strategies: how the support mask is applied to the support features.

========  =============================================================================================
none      the features of the whole support photograph
feature   these features, multiplied by the mask resized to the map
input     the features of the photograph with its background set to the mean colour
hybrid    element by element: the feature-masked value if it is positive, else the input-masked value
========  =============================================================================================

Hybrid masking: Moon et al., "HM: Hybrid Masking for Few-Shot Segmentation", ECCV 2022, section 3. To add a strategy,
add an entry to :data:`MASKINGS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fss.models.layers.explicit_resize import resize_masks


@dataclass(frozen=True)
class Masking:
    """One masking strategy.

    ``merge(plain, masked, mask)`` takes a map of the whole photographs and the same map of the masked photographs, both
    ``[N,C,h,w]``, and the masks ``[N,H,W]``. It returns ``[N,C,h,w]``. A map that the strategy does not need may be any
    tensor.
    """

    name: str
    needs_plain: bool
    """Whether the strategy uses the features of the whole support photograph."""
    needs_masked: bool
    """Whether the strategy uses the features of the support photograph times its mask."""
    merge: Callable[[Tensor, Tensor, Tensor], Tensor]


def mask_features(features: Tensor, mask: Tensor) -> Tensor:
    """Multiply features ``[N,C,h,w]`` by the masks ``[N,H,W]``, resized bilinearly.

    The resize must be PyTorch's own in float32 (``fss.models.layers.explicit_resize``): the cosine similarity amplifies
    a weight of 1e-5 in a border cell where it should be 0.
    """
    return features * resize_masks(mask, features.shape[-2:]).to(features.dtype)


def merge_hybrid(plain: Tensor, masked: Tensor, mask: Tensor) -> Tensor:
    """Return the feature-masked value where it is positive, and the input-masked value elsewhere."""
    feature = mask_features(plain, mask)
    return torch.where(feature > 0, feature, masked)


MASKINGS = {
    masking.name: masking
    for masking in (
        Masking("none", True, False, lambda plain, masked, mask: plain),
        Masking("feature", True, False, lambda plain, masked, mask: mask_features(plain, mask)),
        Masking("input", False, True, lambda plain, masked, mask: masked),
        Masking("hybrid", True, True, merge_hybrid),
    )
}


def get_masking(name: str) -> Masking:
    """Return the strategy ``name``.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in MASKINGS:
        raise ValueError(f"unknown masking strategy {name!r}; choose one of {', '.join(MASKINGS)}")
    return MASKINGS[name]
