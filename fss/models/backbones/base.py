"""The base class of backbones.

A backbone returns :data:`fss.models.features.Features`: four stages at reductions 4, 8, 16 and 32. A learner's
:class:`MapSelection` lists the maps that it uses; a backbone keeps no others in memory. HSNet, ASNet and VAT correlate
the stages at reductions 8, 16 and 32. Each backbone's module lists the maps of its stages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from fss.models.features import Features, map_features

if TYPE_CHECKING:
    from fss.models.backbones.vit import VitBackbone

MapChoice = Literal["none", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class MapSelection:
    """The maps that a learner takes from a backbone."""

    keep: tuple[MapChoice, MapChoice, MapChoice, MapChoice]
    """For each stage (reductions 4, 8, 16, 32): no map, the map of the last block, or the maps of all blocks."""
    activated: bool = False
    """Take the maps after the block's final ReLU (MaskSplit) instead of before it (HSNet, ASNet, VAT)."""
    dilated: bool = False
    """Keep the last two stages at stride 8 by dilation, in backbones that support it; a vision transformer keeps its
    own grid in them."""


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
        self.fused = False
        """Whether the convolutions are fused ones, see :meth:`fuse`."""
        self.dtype: torch.dtype | None = None
        """Type of the arithmetic of a fused backbone, whose maps are float32. None: that of the images."""
        self._fast_copy: tuple[Backbone, ...] = ()  # in a tuple, so that neither weights nor modes reach it

    def freeze(self, frozen: bool = True, *, drifting_batchnorm: bool = False) -> "Backbone":
        """Freeze or unfreeze the weights; the BatchNorm statistics stay fixed too unless ``drifting_batchnorm``."""
        self.frozen, self.drifting_batchnorm = frozen, drifting_batchnorm
        self._fast_copy = ()
        self.requires_grad_(not frozen)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode. A frozen backbone stays in evaluation mode unless its statistics drift.

        Raises:
            ValueError: the backbone is a fused one, which has no weights to train.
        """
        if mode:
            self._require_weights()
        super().train(mode and (not self.frozen or self.drifting_batchnorm))
        return self

    def compute_by(self, fast_copy: "Backbone") -> None:
        """Let a fused copy compute the maps, while this backbone keeps the weights; freezing anew ends it.

        Raises:
            ValueError: the weights or the statistics of this backbone change in training.
        """
        if not self.frozen or self.drifting_batchnorm:
            raise ValueError("a copy computes the maps of frozen backbones only, whose BatchNorm does not drift")
        self._fast_copy = (fast_copy,)

    def __getstate__(self) -> dict[str, object]:
        """Leave the fused copy out of copies."""
        return {**self.__dict__, "_fast_copy": ()}

    def forward(self, images: Tensor) -> Features:
        """Return the selected maps of ImageNet-normalised images ``[B,3,H,W]``."""
        if self._fast_copy:
            return self._fast_copy[0](images)  # type: ignore[no-any-return]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if self.dtype is None:
                return self.stages(images)
            return map_features(Tensor.float, self.stages(images.to(self.dtype)))

    def stages(self, images: Tensor) -> Features:
        """Compute the selected maps of images ``[B,3,H,W]``. Subclasses implement this method."""
        raise NotImplementedError

    @property
    def tokens(self) -> "VitBackbone | None":
        """The backbone itself if its maps come from one grid of tokens, which a pyramid is made of; else None."""
        return None

    def fuse(self) -> bool:
        """Replace convolutions by fused ones (``fss.models.layers.fused_conv``) in place, for inference on the CPU.

        The backbone can then be neither trained nor saved, nor fused again. Returns whether there is anything to fuse.
        """
        return False

    def _save_to_state_dict(self, *args: Any, **settings: Any) -> None:
        """Refuse to save a fused backbone, in whatever network: torch would leave its weights out without a word."""
        self._require_weights()
        super()._save_to_state_dict(*args, **settings)

    def _require_weights(self) -> None:
        """Raise a ValueError if the backbone is a fused one, whose weights are gone."""
        if self.fused:
            raise ValueError(
                "this network is prepared for inference, and can be neither trained nor saved; load it again"
            )

    def padding_note(self, height: int, width: int) -> str:
        """Return a note if images of this size are padded inside the backbone, or an empty string."""
        return ""

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the key names of a library's state dict to this module's, and drop the classifier.

        The keys have no prefix such as ``backbone.``; see ``fss.models.weights.state_dict``.
        """
        raise NotImplementedError


T = TypeVar("T")


def select_maps(maps: Sequence[T], keep: MapChoice) -> tuple[T, ...]:
    """Return the selected ones of a stage's maps, or of any other values listed per map."""
    return {"none": (), "last": tuple(maps[-1:]), "all": tuple(maps)}[keep]


def select_channels(channels: Sequence[Sequence[int]], selection: MapSelection) -> tuple[tuple[int, ...], ...]:
    """Return the channel counts of the selected maps, by stage."""
    return tuple(select_maps(counts, keep) for counts, keep in zip(channels, selection.keep, strict=True))


BackboneBuilder = Callable[[str, MapSelection, bool], Backbone]
