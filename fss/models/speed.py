"""The fastest path of a segmenter: compiled training, and inference whose results change only by rounding."""

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch

from fss.models.backbones.base import Backbone
from fss.models.config import Precision
from fss.models.segmenter import FewShotSegmenter

_CHECK_SIDE = 64
_TOLERANCE = 1e-4


class HasBackbone(Protocol):
    """A network with a backbone: a few-shot segmenter, a semantic network or a saliency student."""

    backbone: Backbone


@dataclass(frozen=True, kw_only=True)
class InferencePath:
    """How the backbone of a network runs."""

    name: str
    """What runs the backbone: ``PyTorch``, ``oneDNN`` or ``oneDNN, bf16 backbone``."""
    autocast: Precision
    """Precision that passes of the whole network still need (see ``fss.models.precision.autocast``)."""


def speed_up(segmenter: FewShotSegmenter, *, compile: bool = False) -> FewShotSegmenter:
    """Prepare a segmenter for training, in place, and return it.

    Args:
        segmenter: the network, on the device where it will run.
        compile: compile backbone and learner with ``torch.compile``.
    """
    segmenter.backbone.to(memory_format=torch.channels_last)
    if compile:
        # Freezing makes the weights constants, which are arranged for the kernels once instead of in every call.
        segmenter.backbone.compile(options={"freezing": segmenter.backbone.frozen})
        segmenter.learner.compile()
    return segmenter


def prepare_inference(network: HasBackbone, precision: Precision = "fp32") -> InferencePath:
    """Choose the fastest path for a network in evaluation mode on its device, in place, and return it.

    On a CPU the convolutions of a ResNet or MobileNetV2 become fused ones if its maps stay the same but for rounding,
    which is checked. The network can then be neither trained nor saved. There, ``bf16`` runs the backbone alone in
    bfloat16: rounded comparisons would change ten times as many pixels. A saliency prior is prepared too, in float32.
    A network that is prepared already, such as a prior of two segmenters, only takes the precision.
    """
    if isinstance(network, FewShotSegmenter) and network.prior is not None:
        prepare_inference(network.prior)
    if not network.backbone.fused and (fused := _fused(network.backbone)) is not None:
        network.backbone = fused
    if not network.backbone.fused:
        return InferencePath(name="PyTorch", autocast=precision)
    network.backbone.dtype = torch.bfloat16 if precision == "bf16" else None
    if precision == "bf16":
        return InferencePath(name="oneDNN, bf16 backbone", autocast="fp32")
    return InferencePath(name="oneDNN", autocast=precision)


def _fused(backbone: Backbone) -> Backbone | None:
    """Return a copy of a backbone with fused convolutions; None if it has none, or not the same maps."""
    on_cpu = next(backbone.parameters()).device.type == "cpu"
    if not on_cpu or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    fused = copy.deepcopy(backbone).eval()
    fused.fused = fused.fuse()
    return fused if fused.fused and _difference(backbone, fused) <= _TOLERANCE else None


@torch.no_grad()
def _difference(backbone: Backbone, fused: Backbone) -> float:
    """Return the largest difference of a map, as a share of its largest value."""
    images = torch.randn(1, 3, _CHECK_SIDE, _CHECK_SIDE, generator=torch.Generator().manual_seed(0))
    pairs = zip(chain(*backbone(images)), chain(*fused(images)), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in pairs)
