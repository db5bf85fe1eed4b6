"""Backbones of timm with several resolutions, through its ``features_only`` interface.

timm returns one map per stage. The last map at each of the reductions 4, 8, 16 and 32 is used. Plain vision
transformers have one resolution; they are in ``fss.models.backbones.vit``.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fss.models.backbones import vit
from fss.models.backbones.base import Backbone, MapSelection, select_channels
from fss.models.features import REDUCTIONS, Features


def is_timm_model(name: str) -> bool:
    """Return whether timm has a model of this name."""
    import timm

    return bool(timm.is_model(name))


def similar_names(name: str) -> str:
    """Return a hint that lists timm names similar to ``name``, or an empty string."""
    import timm

    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f" (similar names: {', '.join(close)})" if close else ""


class TimmBackbone(Backbone):
    """A timm feature extractor; ``indices`` are the positions of its maps at reductions 4, 8, 16 and 32."""

    def __init__(self, network: Any, indices: list[int], selection: MapSelection) -> None:
        super().__init__(selection)
        self.network = network
        self.indices = indices
        counts = [network.feature_info.channels()[index] for index in indices]
        self.channels = select_channels([[count] for count in counts], selection)

    def stages(self, images: Tensor) -> Features:
        """Return one map per stage."""
        maps = self.network(images)
        return [
            [] if keep == "none" else [maps[index]]
            for index, keep in zip(self.indices, self.selection.keep, strict=True)
        ]

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the key names of a timm state dict to the feature extractor's, and drop the keys it lacks."""
        # features_only flattens "layers.0.x" to "layers_0.x" for some models: compare names without that difference.
        own_keys = {key.removeprefix("network.").replace(".", "_"): key for key in self.state_dict()}
        renamed = {own_keys.get(key.replace(".", "_"), ""): v for key, v in state.items()}
        renamed.pop("", None)
        return renamed


def build(name: str, selection: MapSelection, pretrained: bool) -> Backbone:
    """Create the timm model ``name``.

    Raises:
        ValueError: the model has no feature maps at the four reductions and is no plain vision transformer.
    """
    import timm

    if vit.is_plain_transformer(name):
        return vit.build(name, selection, pretrained)
    extra: dict[str, Any] = {"output_stride": 8} if selection.dilated else {}
    try:
        plain: Any = timm.create_model(name, features_only=True, pretrained=False)
        indices = _map_indices(plain.feature_info.reduction())
        network = timm.create_model(name, features_only=True, pretrained=pretrained, **extra)
    except (RuntimeError, NotImplementedError, TypeError, AssertionError, AttributeError) as error:
        raise ValueError(f"timm's {name} cannot be used as a feature pyramid: {error}") from error
    return TimmBackbone(network, indices, selection)


def _map_indices(reductions: list[int]) -> list[int]:
    missing = [r for r in REDUCTIONS if r not in reductions]
    if missing:
        raise NotImplementedError(f"it has no map at reduction {missing}; its reductions are {reductions}")
    return [max(i for i, r in enumerate(reductions) if r == reduction) for reduction in REDUCTIONS]
