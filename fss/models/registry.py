"""The learners by name, and the defaults of a segmenter's configuration that depend on other settings."""

import dataclasses

from fss.models.backbones.factory import is_plain_transformer
from fss.models.config import DensityConfig, SegmenterConfig
from fss.models.learners.asnet import ASNet
from fss.models.learners.base import Learner
from fss.models.learners.density import Density
from fss.models.learners.hsnet import HSNet
from fss.models.learners.masksplit import MaskSplit
from fss.models.learners.vat import VAT

LEARNERS: dict[str, type[Learner]] = {
    "masksplit": MaskSplit,
    "hsnet": HSNet,
    "asnet": ASNet,
    "vat": VAT,
    "density": Density,
}
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
        ValueError: a setting that the learner does not support.
    """
    dilatable = config.learner in ("masksplit", "density")
    if config.dilated and not dilatable:
        raise ValueError(
            "only masksplit and density support dilated backbones; "
            f"{config.learner} compares maps of three resolutions. Leave dilated unset."
        )
    if config.density_prior and config.learner != "masksplit":
        raise ValueError(f"only masksplit takes a density prior, not {config.learner}; leave --density-prior out")
    compares_densities = config.learner == "density" or config.density_prior
    if config.density != DensityConfig() and not compares_densities:
        advice = ", or give --density-prior" if config.learner == "masksplit" else ""
        raise ValueError(f"the settings of density have no effect on {config.learner}; leave --density.* out{advice}")
    if compares_densities and config.masking != "none":
        raise ValueError(
            f"masking is {config.masking!r}, but density needs the background of its supports; leave --masking at none"
        )
    return dataclasses.replace(
        config,
        frozen=config.backbone_weights is not None if config.frozen is None else config.frozen,
        dilated=_is_dilated_by_default(config) if config.dilated is None else config.dilated,
        grid=(128 if config.image_size > 256 else 64) if config.grid is None else config.grid,
    )


def _is_dilated_by_default(config: SegmenterConfig) -> bool:
    if config.learner == "density":  # the finer grid of a ResNet would multiply the cells of its clouds
        return is_plain_transformer(config.backbone)
    return config.learner == "masksplit" and (
        config.backbone in _DILATED_BY_DEFAULT or is_plain_transformer(config.backbone)
    )
