"""Every convolutional backbone of timm, by its name, through timm's ``features_only`` interface.

timm hands out one map per stage; the last map at each reduction of 4, 8, 16 and 32 is taken.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fss.models.backbones.base import Backbone, MapSelection, select_channels
from fss.models.features import REDUCTIONS, Features


def knows(name: str) -> bool:
    """Tell whether timm has a model of this name."""
    import timm

    return bool(timm.is_model(name))


def suggestion(name: str) -> str:
    """Return a hint with timm names close to ``name``, or an empty string."""
    import timm

    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    return f" (close to it: {', '.join(close)})" if close else ""


class TimmBackbone(Backbone):
    """A timm feature extractor."""

    def __init__(self, network: Any, places: list[int], selection: MapSelection) -> None:
        super().__init__(selection)
        self.network = network
        self.places = places
        counts = [network.feature_info.channels()[place] for place in places]
        self.channels = select_channels([[count] for count in counts], selection)

    def stages(self, images: Tensor) -> Features:
        """Return one map per stage."""
        maps = self.network(images)
        return [
            [] if keep == "none" else [maps[place]]
            for place, keep in zip(self.places, self.selection.keep, strict=True)
        ]

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a plain timm state dict to the feature extractor's flattened names; drop what it does not hold."""
        own = self.state_dict()
        # features_only flattens "layers.0.x" to "layers_0.x" for some models: compare names without that difference.
        places = {key.removeprefix("network.").replace(".", "_"): key for key in own}
        named = {places.get(key.removeprefix("network.").replace(".", "_"), ""): v for key, v in state.items()}
        named.pop("", None)
        return named


def build(name: str, selection: MapSelection, pretrained: bool) -> Backbone:
    """Create the timm model ``name``."""
    import timm

    extra: dict[str, Any] = {"output_stride": 8} if selection.dilated else {}
    try:
        plain: Any = timm.create_model(name, features_only=True, pretrained=False)
        places = _places(plain.feature_info.reduction())
        network = timm.create_model(name, features_only=True, pretrained=pretrained, **extra)
    except (RuntimeError, NotImplementedError, TypeError, AssertionError, AttributeError) as error:
        raise ValueError(f"timm's {name} cannot be used as a feature pyramid: {error}") from error
    return TimmBackbone(network, places, selection)


def _places(reductions: list[int]) -> list[int]:
    missing = [r for r in REDUCTIONS if r not in reductions]
    if missing:
        raise NotImplementedError(f"it has no map at reduction {missing}; its reductions are {reductions}")
    return [max(i for i, r in enumerate(reductions) if r == wanted) for wanted in REDUCTIONS]
