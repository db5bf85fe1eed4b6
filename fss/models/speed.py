"""Optimisations of a segmenter that change its results only by rounding."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fss.models.segmenter import FewShotSegmenter


def speed_up(
    segmenter: FewShotSegmenter, *, channels_last: bool = True, fold_batchnorm: bool = True, compile: bool = False
) -> FewShotSegmenter:
    """Optimise a segmenter in place and return it.

    Args:
        segmenter: the network, on the device where it will run.
        channels_last: use the channels-last memory format in the backbone. New segmenters already do; those from
            :func:`fss.models.load_published` do not.
        fold_batchnorm: merge the BatchNorm layers of a frozen backbone into its convolutions. Hybrid masking is
            discontinuous, so single features may change visibly. The network can then neither save nor load
            checkpoints.
        compile: compile backbone and learner with ``torch.compile``.

    Raises:
        ValueError: ``fold_batchnorm`` for a backbone that is not frozen or whose statistics drift.
    """
    if fold_batchnorm:
        if not segmenter.backbone.frozen or segmenter.backbone.drifting_batchnorm:
            raise ValueError(
                "BatchNorm can be folded only in a frozen backbone with fixed statistics; set fold_batchnorm=False"
            )
        fold_batchnorms(segmenter.backbone)
    if channels_last:
        segmenter.backbone.to(memory_format=torch.channels_last)
    if compile:
        # Freezing makes the weights constants, which are arranged for the kernels once instead of in every call.
        segmenter.backbone.compile(options={"freezing": segmenter.backbone.frozen})
        segmenter.learner.compile()
    return segmenter


def fold_batchnorms(module: nn.Module) -> None:
    """Fold each BatchNorm into the convolution right before it, in the order of the module's children."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], _fused(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_batchnorms(child)
        previous = (name, child)


def _fused(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    training = conv.training, norm.training
    fused: nn.Conv2d = fuse_conv_bn_eval(conv.eval(), norm.eval())
    fused.train(training[0])
    return fused.requires_grad_(False)
