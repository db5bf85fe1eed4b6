"""Backbones: image classifiers cut open into pyramids of feature maps.

A backbone returns :data:`fss.models.features.Features`: four stages at reductions 4, 8, 16 and 32. Each learner says
which maps of each stage it wants, so nothing else is kept alive. The correlation levels of HSNet, ASNet and VAT are the
stages at reductions 8, 16 and 32, whatever the backbone; the table of maps per stage is in each backbone's module.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from fss.models.features import Features

Keep = Literal["none", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class MapSelection:
    """Which maps a learner takes from a backbone."""

    keep: tuple[Keep, Keep, Keep, Keep]
    """Per stage (reductions 4, 8, 16, 32): no map, the last block's, or every block's."""
    activated: bool = False
    """Take the maps after the block's final ReLU (MaskSplit) instead of before it (HSNet, ASNet, VAT)."""
    dilated: bool = False
    """Keep the last two stages on the stride-8 grid by dilation, where the backbone can."""


class Backbone(nn.Module):
    """Base of all backbones: frozen state, channel counts, and the choice of maps.

    A frozen backbone takes no gradient and runs under ``no_grad``; its BatchNorm uses the stored statistics even in
    ``train()``, unless ``drifting_batchnorm`` lets the statistics drift, as the released MaskSplit code did.
    """

    channels: tuple[tuple[int, ...], ...]
    """Channels of every kept map, by stage."""

    def __init__(self, selection: MapSelection) -> None:
        super().__init__()
        self.selection = selection
        self.frozen = False
        self.drifting_batchnorm = False

    def freeze(self, frozen: bool = True, *, drifting_batchnorm: bool = False) -> "Backbone":
        """Freeze (or thaw) the weights, and the BatchNorm statistics unless they shall drift."""
        self.frozen, self.drifting_batchnorm = frozen, drifting_batchnorm
        self.requires_grad_(not frozen)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Switch the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode and (not self.frozen or self.drifting_batchnorm))
        return self

    def forward(self, images: Tensor) -> Features:
        """Encode normalised images ``[B,3,H,W]``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.stages(images)

    def stages(self, images: Tensor) -> Features:
        """Compute the kept maps; what a backbone implements."""
        raise NotImplementedError

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a library's state dict into this module's key names, without its classifier."""
        raise NotImplementedError


T = TypeVar("T")


def select_maps(maps: Sequence[T], keep: Keep) -> tuple[T, ...]:
    """Return those of one stage's maps (or of anything listed per map) that ``keep`` asks for."""
    return {"none": (), "last": tuple(maps[-1:]), "all": tuple(maps)}[keep]


def select_channels(channels: Sequence[Sequence[int]], selection: MapSelection) -> tuple[tuple[int, ...], ...]:
    """Return the channel counts of the kept maps, by stage."""
    return tuple(select_maps(counts, keep) for counts, keep in zip(channels, selection.keep, strict=True))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch file (weights only, no code is run).

    A container's ``state_dict`` entry is opened, and a data-parallel ``module.`` prefix is dropped.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no weights file at {path}; give the path of a state dict, None, or 'pretrained'")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return unwrap_state_dict(load_file(path))
    return unwrap_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def unwrap_state_dict(state: Any) -> dict[str, Tensor]:
    """Open a checkpoint container and drop a ``module.`` prefix that every key shares."""
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"expected a state dict or a container with a 'state_dict', got {type(state).__name__}")
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Load ``state`` and name every missing, unexpected and misshapen key in one error.

    ``num_batches_tracked`` counters may be missing: evaluation does not use them.
    """
    own = module.state_dict()
    missing = sorted(key for key in own if key not in state and not key.endswith("num_batches_tracked"))
    unexpected = sorted(key for key in state if key not in own)
    misshapen = [
        f"{key}: got {list(state[key].shape)}, expected {list(own[key].shape)}"
        for key in sorted(own)
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unexpected or misshapen:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)]
        told = "; ".join(f"{len(keys)} {name}: {_some(keys)}" for name, keys in parts if keys)
        raise ValueError(f"the weights do not fit {what}: {told}. Check the learner, backbone and benchmark names.")
    module.load_state_dict(state, strict=False)


def _some(keys: Sequence[str], limit: int = 40) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


BackboneBuilder = Callable[[str, MapSelection, bool], Backbone]
