"""Faster ways to run a segmenter that change its results by rounding only."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fss.models.segmenter import FewShotSegmenter


def speed_up(
    segmenter: FewShotSegmenter, *, channels_last: bool = True, fold_batchnorm: bool = True, compile: bool = False
) -> FewShotSegmenter:
    """Prepare a segmenter for speed, in place, and return it.

    Args:
        segmenter: the network, on its device.
        channels_last: keep the backbone's weights and maps with channels last, as new segmenters do and published ones
            do not.
        fold_batchnorm: merge BatchNorm into the convolutions of a frozen backbone. Hybrid masking is discontinuous, so
            single elements may flip; checkpoints can no longer be saved from or loaded into the network.
        compile: compile backbone and learner with ``torch.compile``.
    """
    if fold_batchnorm:
        if not segmenter.backbone.frozen or segmenter.backbone.drifting_batchnorm:
            raise ValueError("only a frozen backbone with fixed statistics can have its BatchNorm folded")
        fold(segmenter.backbone)
    if channels_last:
        segmenter.backbone.to(memory_format=torch.channels_last)
    if compile:
        # Weights of a frozen backbone become constants, laid out for the kernels once instead of in every call.
        segmenter.backbone.compile(options={"freezing": segmenter.backbone.frozen})
        segmenter.learner.compile()
    return segmenter


def fold(module: nn.Module) -> None:
    """Fold every BatchNorm that directly follows a convolution, in the order of the module's children."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], _fused(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold(child)
        previous = (name, child)


def _fused(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    training = conv.training, norm.training
    fused: nn.Conv2d = fuse_conv_bn_eval(conv.eval(), norm.eval())
    fused.train(training[0])
    return fused.requires_grad_(False)
