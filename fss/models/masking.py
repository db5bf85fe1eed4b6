"""Masking strategies: how the support mask enters the support features.

========  ==============================================================================================
none      the features of the whole support photograph
feature   those features times the mask resized to the map (feature masking)
input     the features of the photograph whose background was set to the mean colour (input masking)
hybrid    element-wise: the feature-masked value where it is positive, the input-masked value elsewhere
========  ==============================================================================================

Hybrid masking: Moon et al., "HM: Hybrid Masking for Few-Shot Segmentation", ECCV 2022, section 3. A further strategy is
one more entry of :data:`MASKINGS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fss.models.features import resize


@dataclass(frozen=True)
class Masking:
    """One masking strategy.

    ``merge(plain, masked, mask)`` receives a map of the whole photograph and the same map of the masked photograph,
    ``[N,C,h,w]`` each (one that is not needed may be any tensor), and the masks ``[N,H,W]``; it returns ``[N,C,h,w]``.
    """

    name: str
    needs_plain: bool
    """Whether the backbone must see the whole support photograph."""
    needs_masked: bool
    """Whether the backbone must see the support photograph times its mask."""
    merge: Callable[[Tensor, Tensor, Tensor], Tensor]


def mask_features(features: Tensor, mask: Tensor) -> Tensor:
    """Multiply ``[N,C,h,w]`` by the masks ``[N,H,W]`` resized bilinearly.

    The resize must be the framework's own in float32: on the 50 x 50 grid of a 400-pixel mask, rounding decides whether
    a border cell weighs 0 or 1e-5, and the cosine that follows makes the two very different.
    """
    return features * resize(mask[:, None].float(), features.shape[-2:]).to(features.dtype)


def merge_hybrid(plain: Tensor, masked: Tensor, mask: Tensor) -> Tensor:
    """Take the feature-masked value where it is positive, the input-masked value elsewhere."""
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
    """Return the strategy ``name``; unknown names are answered with the known ones."""
    if name not in MASKINGS:
        raise ValueError(f"unknown masking strategy {name!r}; known are {', '.join(MASKINGS)}")
    return MASKINGS[name]
