"""Backbones by name: the built-in ones, and every convolutional model of timm."""

from pathlib import Path

import torch

from fss.models.backbones import resnet, sequential, timm_backbone
from fss.models.backbones.base import Backbone, BackboneBuilder, MapSelection, load_strictly, read_state_dict


def create_backbone(
    name: str, selection: MapSelection, *, backbone_weights: str | Path | None = None, seed: int = 0
) -> Backbone:
    """Build the backbone ``name`` with the maps that ``selection`` asks for.

    Args:
        name: one of :func:`backbone_names`, or a timm model name (optionally written ``timm:name``).
        selection: the maps to return.
        backbone_weights: None (random weights under ``seed``), a state dict's path, or ``"pretrained"`` (the library's
            ImageNet weights, downloaded when they are not in its cache).
        seed: seed of the random weights.

    Raises:
        ValueError: an unknown name, or weights that do not fit, with the keys at fault.
    """
    builder = _builder(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = builder(name.removeprefix("timm:"), selection, backbone_weights == "pretrained")
    if backbone_weights is not None and backbone_weights != "pretrained":
        load_strictly(backbone, backbone.rename_weights(read_state_dict(backbone_weights)), what=f"the backbone {name}")
    return backbone


def backbone_names() -> list[str]:
    """Return the names of the built-in backbones; timm's names come on top."""
    return sorted(_builders())


def _builders() -> dict[str, BackboneBuilder]:
    return {**resnet.BUILDERS, **sequential.BUILDERS}


def _builder(name: str) -> BackboneBuilder:
    builders = _builders()
    if name in builders:
        return builders[name]
    if timm_backbone.knows(name.removeprefix("timm:")):
        return timm_backbone.build
    raise ValueError(
        f"unknown backbone {name!r}; known are {', '.join(sorted(builders))}, and every convolutional model of timm "
        f"by its name{timm_backbone.suggestion(name)}"
    )
