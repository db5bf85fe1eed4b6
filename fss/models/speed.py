"""The fastest path of a network in training and in inference; its results change only by rounding."""

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch

from fss.core.memory import keep_freed_memory
from fss.models.backbones.base import Backbone
from fss.models.config import Precision
from fss.models.precision import require_precision
from fss.models.segmenter import FewShotSegmenter

_CHECK_SIDE = 64
_TOLERANCE = 1e-4


class HasBackbone(Protocol):
    """A network with a backbone: a few-shot segmenter, a semantic network or a saliency student."""

    backbone: Backbone


@dataclass(frozen=True, kw_only=True)
class BackbonePath:
    """How the backbone of a network runs."""

    name: str
    """What runs the backbone: ``PyTorch``, ``oneDNN`` or ``oneDNN, bf16 backbone``."""
    autocast: Precision
    """Precision that passes of the whole network still need (see ``fss.models.precision.autocast``)."""


def prepare_training(
    segmenter: FewShotSegmenter, precision: Precision = "fp32", *, compile: bool = False
) -> BackbonePath:
    """Choose the fastest path for the training of a segmenter that has its weights, in place, and return it.

    A frozen backbone on a CPU runs as in :func:`prepare_inference`: with ``bf16`` in bfloat16, while the learner stays
    in float32. The segmenter keeps its weights and can be saved.

    Args:
        segmenter: the network, on the device where it will run.
        precision: of the arithmetic.
        compile: compile backbone and learner with ``torch.compile``.

    Raises:
        ValueError: the CPU does not have the precision.
    """
    backbone = segmenter.backbone
    backbone.to(memory_format=torch.channels_last)
    if compile:
        # Freezing makes the weights constants, which are arranged for the kernels once instead of in every call.
        backbone.compile(options={"freezing": backbone.frozen})
        segmenter.learner.compile()
    elif backbone.frozen and not backbone.drifting_batchnorm and (fused := _fused(backbone)) is not None:
        backbone.compute_by(fused)
        return _path_of(fused, precision)
    return BackbonePath(name="PyTorch", autocast=precision)


def shared_copy(segmenter: FewShotSegmenter) -> FewShotSegmenter:
    """Return a segmenter with the modules of another that can be prepared for inference without changing the other."""
    shared = copy.copy(segmenter)
    shared._modules = dict(segmenter._modules)
    if segmenter.prior is not None:
        shared.prior = copy.copy(segmenter.prior)
        shared.prior._modules = dict(segmenter.prior._modules)
    return shared


def prepare_inference(network: HasBackbone, precision: Precision = "fp32") -> BackbonePath:
    """Choose the fastest path for a network in evaluation mode on its device, in place, and return it.

    On a CPU the convolutions of a ResNet or MobileNetV2 become fused ones if its maps stay the same but for rounding,
    which is checked. The network can then be neither trained nor saved (:func:`shared_copy` keeps one that can). There,
    ``bf16`` runs the backbone alone in bfloat16: rounded comparisons would change ten times as many pixels. A saliency
    prior is prepared too, in float32. A network that is prepared already, such as a prior of two segmenters, only takes
    the precision. The process keeps freed memory from now on (``fss.core.memory``).

    Raises:
        ValueError: the CPU does not have the precision.
    """
    if isinstance(network, FewShotSegmenter) and network.prior is not None:
        prepare_inference(network.prior)
    if not network.backbone.fused and _on_cpu(network.backbone):
        keep_freed_memory()
    if not network.backbone.fused and (fused := _fused(network.backbone)) is not None:
        network.backbone = fused
    if not network.backbone.fused:
        return BackbonePath(name="PyTorch", autocast=precision)
    return _path_of(network.backbone, precision)


def _path_of(fused: Backbone, precision: Precision) -> BackbonePath:
    """Set the precision of a fused backbone, and return its path."""
    require_precision(precision, "cpu")
    fused.dtype = torch.bfloat16 if precision == "bf16" else None
    if precision == "bf16":
        return BackbonePath(name="oneDNN, bf16 backbone", autocast="fp32")
    return BackbonePath(name="oneDNN", autocast=precision)


def _on_cpu(backbone: Backbone) -> bool:
    return next(backbone.parameters()).device.type == "cpu"


def _fused(backbone: Backbone) -> Backbone | None:
    """Return a copy of a backbone with fused convolutions; None if it has none, or not the same maps."""
    if not _on_cpu(backbone) or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
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
