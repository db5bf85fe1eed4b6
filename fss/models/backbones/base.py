"""The base class of backbones, and strict loading of their weights.

A backbone returns :data:`fss.models.features.Features`: four stages at reductions 4, 8, 16 and 32. A learner's
:class:`MapSelection` lists the maps that it uses; a backbone keeps no others in memory. HSNet, ASNet and VAT correlate
the stages at reductions 8, 16 and 32. Each backbone's module lists the maps of its stages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from fss.models.features import Features

MapChoice = Literal["none", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class MapSelection:
    """The maps that a learner takes from a backbone."""

    keep: tuple[MapChoice, MapChoice, MapChoice, MapChoice]
    """For each stage (reductions 4, 8, 16, 32): no map, the map of the last block, or the maps of all blocks."""
    activated: bool = False
    """Take the maps after the block's final ReLU (MaskSplit) instead of before it (HSNet, ASNet, VAT)."""
    dilated: bool = False
    """MapChoice the last two stages at stride 8 by dilation, in backbones that support it."""


class Backbone(nn.Module):
    """Base class of all backbones: map selection, channel counts and freezing.

    A frozen backbone computes no gradients. Its BatchNorm layers use the stored statistics even after ``train()``,
    unless ``drifting_batchnorm`` is set: then the running statistics are updated in training, as in the released
    MaskSplit code.
    """

    channels: tuple[tuple[int, ...], ...]
    """Channels of every selected map, by stage."""

    def __init__(self, selection: MapSelection) -> None:
        super().__init__()
        self.selection = selection
        self.frozen = False
        self.drifting_batchnorm = False

    def freeze(self, frozen: bool = True, *, drifting_batchnorm: bool = False) -> "Backbone":
        """Freeze or unfreeze the weights; the BatchNorm statistics stay fixed too unless ``drifting_batchnorm``."""
        self.frozen, self.drifting_batchnorm = frozen, drifting_batchnorm
        self.requires_grad_(not frozen)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode. A frozen backbone stays in evaluation mode unless its statistics drift."""
        super().train(mode and (not self.frozen or self.drifting_batchnorm))
        return self

    def forward(self, images: Tensor) -> Features:
        """Return the selected maps of ImageNet-normalised images ``[B,3,H,W]``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.stages(images)

    def stages(self, images: Tensor) -> Features:
        """Compute the selected maps of images ``[B,3,H,W]``. Subclasses implement this method."""
        raise NotImplementedError

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the key names of a library's state dict to this module's, and drop the classifier."""
        raise NotImplementedError


T = TypeVar("T")


def select_maps(maps: Sequence[T], keep: MapChoice) -> tuple[T, ...]:
    """Return the selected ones of a stage's maps, or of any other values listed per map."""
    return {"none": (), "last": tuple(maps[-1:]), "all": tuple(maps)}[keep]


def select_channels(channels: Sequence[Sequence[int]], selection: MapSelection) -> tuple[tuple[int, ...], ...]:
    """Return the channel counts of the selected maps, by stage."""
    return tuple(select_maps(counts, keep) for counts, keep in zip(channels, selection.keep, strict=True))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch file.

    Torch files are read with ``weights_only=True``, which runs no code from the file. See :func:`unwrap_state_dict` for
    the containers that are accepted.

    Raises:
        ValueError: there is no such file, or it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no weights file at {path}; give the path of a state dict, None, or 'pretrained'")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return unwrap_state_dict(load_file(path))
    return unwrap_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def unwrap_state_dict(state: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of a container's ``state_dict`` entry.

    A ``module.`` prefix (of DataParallel) that all keys share is removed.

    Raises:
        ValueError: the value is neither a state dict nor such a container.
    """
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"expected a state dict or a container with a 'state_dict', got {type(state).__name__}")
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Load a state dict whose keys and shapes must match those of ``module``.

    BatchNorm's ``num_batches_tracked`` counters may be missing, because evaluation does not use them.

    Args:
        module: the module to load into.
        state: tensors by key.
        what: the name of the module in the error message.

    Raises:
        ValueError: keys are missing, unexpected or of another shape; the message lists them.
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
        groups = [("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)]
        problems = "; ".join(f"{len(keys)} {name}: {_abbreviate(keys)}" for name, keys in groups if keys)
        raise ValueError(f"the weights do not fit {what}: {problems}. Check the learner, backbone and benchmark names.")
    module.load_state_dict(state, strict=False)


def _abbreviate(keys: Sequence[str], limit: int = 40) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


BackboneBuilder = Callable[[str, MapSelection, bool], Backbone]
