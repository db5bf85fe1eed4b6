"""Create backbones by name: the built-in ones and the models of timm with a pyramid of maps or a grid of tokens."""

from pathlib import Path

import torch

from fss.core.extras import require
from fss.models.backbones import resnet, sequential, timm_backbone, vit
from fss.models.backbones.base import Backbone, BackboneBuilder, MapSelection
from fss.models.weights.loading import load_weights


def create_backbone(
    name: str, selection: MapSelection, *, backbone_weights: str | Path | None = None, seed: int = 0
) -> Backbone:
    """Create a backbone.

    Args:
        name: one of :func:`backbone_names`, or a timm model name (optionally written ``timm:name``).
        selection: the maps to return.
        backbone_weights: None for random weights, a weights file (see ``fss.models.weights``), or ``"pretrained"`` for
            the library's ImageNet weights, which are downloaded unless they are cached.
        seed: seed of the random weights.

    Raises:
        ValueError: the name is unknown, or the weights cannot be opened or do not fit.
    """
    builder = _builder(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = builder(name.removeprefix("timm:"), selection, backbone_weights == "pretrained")
    if backbone_weights is not None and backbone_weights != "pretrained":
        load_weights(backbone, backbone_weights, what=f"the backbone {name}", translate=backbone.rename_weights)
    return backbone


def backbone_names() -> list[str]:
    """Return the names of the built-in backbones, sorted. Names of timm models are not included."""
    return sorted(_builders())


def is_plain_transformer(name: str) -> bool:
    """Return whether a backbone is a plain vision transformer of timm; the built-in ones, which are none, need no timm.

    Raises:
        ValueError: the name is unknown.
    """
    return _builder(name) is timm_backbone.build and vit.is_plain_transformer(name)


def check_backbone_name(name: str) -> None:
    """Refuse names of backbones that do not exist, without building one.

    Raises:
        ValueError: the name is unknown; the message has the known ones.
    """
    _builder(name)


def _builders() -> dict[str, BackboneBuilder]:
    return {**resnet.BUILDERS, **sequential.BUILDERS}


def _builder(name: str) -> BackboneBuilder:
    builders = _builders()
    if name in builders:
        return builders[name]
    require("timm", what=f"the backbone {name!r}, which is none of {', '.join(sorted(builders))},")
    if timm_backbone.is_timm_model(name.removeprefix("timm:")):
        return timm_backbone.build
    raise ValueError(
        f"unknown backbone {name!r}; choose one of {', '.join(sorted(builders))}, or the name of a convolutional model "
        f"or a vision transformer of timm{timm_backbone.similar_names(name)}"
    )
