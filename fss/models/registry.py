"""Make segmenters by name."""

import dataclasses
from typing import Any

import torch

from fss.core.config import from_dict
from fss.models.backbones.factory import create_backbone
from fss.models.config import SegmenterConfig
from fss.models.learners.asnet import ASNet
from fss.models.learners.base import Learner
from fss.models.learners.hsnet import HSNet
from fss.models.learners.masksplit import MaskSplit
from fss.models.learners.vat import VAT
from fss.models.masking import get_masking
from fss.models.segmenter import FewShotSegmenter

_LEARNERS: dict[str, type[Learner]] = {"masksplit": MaskSplit, "hsnet": HSNet, "asnet": ASNet, "vat": VAT}

_DILATED_BY_DEFAULT = ("resnet50", "resnet101", "resnet50_deepstem", "resnet101_deepstem")


def create_segmenter(**settings: Any) -> FewShotSegmenter:
    """Build a segmenter from the settings of :class:`~fss.models.config.SegmenterConfig`.

    Example:
        >>> create_segmenter(learner="hsnet", masking="hybrid", backbone="resnet50", weights="pretrained")

    Raises:
        ValueError: an unknown setting, learner, masking strategy or backbone, with the list of known ones; weights that
            do not fit.
    """
    return build_segmenter(from_dict(SegmenterConfig, settings))


def build_segmenter(config: SegmenterConfig) -> FewShotSegmenter:
    """Build a segmenter from its configuration; its ``config`` has the defaults that depend on others filled in."""
    get_masking(config.masking)
    learner = _LEARNERS.get(config.learner)
    if learner is None:
        raise ValueError(f"unknown learner {config.learner!r}; known are {', '.join(_LEARNERS)}")
    config = _filled_in(config)
    assert config.frozen is not None and config.dilated is not None
    selection = dataclasses.replace(learner.selection, dilated=config.dilated)
    backbone = create_backbone(config.backbone, selection, weights=config.weights, seed=config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = learner.create(backbone.channels, config)
    backbone.freeze(config.frozen, drifting_batchnorm=config.drifting_batchnorm)
    backbone.to(memory_format=torch.channels_last)
    return FewShotSegmenter(backbone, head, config)


def _filled_in(config: SegmenterConfig) -> SegmenterConfig:
    dilatable = config.learner == "masksplit"
    if config.dilated and not dilatable:
        raise ValueError(f"dilated backbones serve masksplit only; {config.learner} compares maps of three resolutions")
    return dataclasses.replace(
        config,
        frozen=config.weights is not None if config.frozen is None else config.frozen,
        dilated=dilatable and config.backbone in _DILATED_BY_DEFAULT if config.dilated is None else config.dilated,
        grid=(128 if config.image_size > 256 else 64) if config.grid is None else config.grid,
    )
