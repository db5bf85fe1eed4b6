"""The learners by name, and the defaults of a segmenter's configuration that depend on other settings."""

import dataclasses

from fss.models.backbones.vit import is_plain_transformer
from fss.models.config import SegmenterConfig
from fss.models.learners.asnet import ASNet
from fss.models.learners.base import Learner
from fss.models.learners.hsnet import HSNet
from fss.models.learners.masksplit import MaskSplit
from fss.models.learners.vat import VAT

LEARNERS: dict[str, type[Learner]] = {"masksplit": MaskSplit, "hsnet": HSNet, "asnet": ASNet, "vat": VAT}
"""Every learner by the name that configurations use."""

_DILATED_BY_DEFAULT = ("resnet50", "resnet101", "resnet50_deepstem", "resnet101_deepstem")


def get_learner(name: str) -> type[Learner]:
    """Return the learner class ``name``.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in LEARNERS:
        raise ValueError(f"unknown learner {name!r}; choose one of {', '.join(LEARNERS)}")
    return LEARNERS[name]


def resolve_defaults(config: SegmenterConfig) -> SegmenterConfig:
    """Fill in ``frozen``, ``dilated`` and ``grid`` where they are None.

    Raises:
        ValueError: a dilated backbone for a learner that needs maps of three resolutions.
    """
    dilatable = config.learner == "masksplit"
    if config.dilated and not dilatable:
        raise ValueError(
            f"only masksplit supports dilated backbones; {config.learner} compares maps of three resolutions. "
            "Leave dilated unset."
        )
    return dataclasses.replace(
        config,
        frozen=config.backbone_weights is not None if config.frozen is None else config.frozen,
        dilated=dilatable and _is_dilated_by_default(config.backbone) if config.dilated is None else config.dilated,
        grid=(128 if config.image_size > 256 else 64) if config.grid is None else config.grid,
    )


def _is_dilated_by_default(backbone: str) -> bool:
    return backbone in _DILATED_BY_DEFAULT or is_plain_transformer(backbone)
