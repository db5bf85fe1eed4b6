"""Batches of episodes as tensors: raw, as transferred to the device, and rendered, as input of a network.

B is the number of episodes, K of supports per episode, C the side of a canvas and S the side of an image in pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from fss.episodes.collage import paste_collages
from fss.episodes.distractors import paste_distractors
from fss.episodes.rendering import render

Device = str | torch.device

_PIXELS = ("query", "query_masks", "support", "support_masks")  # fields of RawEpisodes with canvases and masks


@dataclass(frozen=True)
class EpisodeBatch:
    """Rendered episodes, the input of a segmenter."""

    query: Tensor
    """Queries, float32 [B, 3, S, S], ImageNet-normalised."""
    target: Tensor
    """Targets, long [B, S, S]: 1 object, 0 background, 255 ignored."""
    support_images: Tensor
    """Supports, float32 [B, K, 3, S, S], ImageNet-normalised."""
    support_masks: Tensor
    """Support masks, float32 [B, K, S, S]: 1 object, else 0."""
    ids: tuple[str, ...]
    """Image or episode id of each episode."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Device) -> "EpisodeBatch":
        """Move the tensors."""
        return _move(self, device, (field.name for field in fields(self)))

    def chunks(self, count: int) -> list["EpisodeBatch"]:
        """Split the batch into at most ``count`` batches of nearly equal size, in order."""
        size = -(-len(self) // count)
        starts = range(0, len(self), size)
        return [
            EpisodeBatch(**{field.name: getattr(self, field.name)[start : start + size] for field in fields(self)})
            for start in starts
        ]


@dataclass(frozen=True)
class RawEpisodes:
    """Episodes before augmentation: uint8 canvases and the parameters of each view."""

    query: Tensor
    """Query canvases, uint8 [B, 3, C, C]."""
    query_masks: Tensor
    """Query masks, uint8 [B, C, C] in {0, 1, 255}."""
    query_views: Tensor
    """Query views, float32 [B, 21]; see ``augmentation.View``."""
    support_masks: Tensor
    """Support masks, uint8 [B, K, C, C] in {0, 1, 255}."""
    support_views: Tensor
    """Support views, float32 [B, K, 21]."""
    ids: tuple[str, ...]
    """Image or episode id of each episode."""
    support: Tensor | None = None
    """Support canvases, uint8 [B, K, 3, C, C]; None if every support is the query image, which is then stored once."""
    partners: Tensor | None = None
    """Index of the next episode of the group of each episode, from which a distractor comes, long [B]; None without
    distractors and collages."""
    placements: Tensor | None = None
    """Placements of the distractors, float32 [B, 3]; see ``distractors.Placement``."""
    layouts: Tensor | None = None
    """Layouts of the collages of the query and the supports, float32 [B, 1 + K, 6]; see ``collage.Layout``."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Device) -> "RawEpisodes":
        """Move canvases and masks; the parameters of the rendering stay where they are, since the host reads them."""
        return _move(self, device, _PIXELS)

    def pin_memory(self) -> "RawEpisodes":
        """Copy canvases and masks to page-locked memory, from which a GPU fetches them while it computes."""
        pixels = {name: getattr(self, name) for name in _PIXELS}
        return replace(self, **{name: value.pin_memory() for name, value in pixels.items() if value is not None})

    def render(self, size: int) -> EpisodeBatch:
        """Warp canvases and masks to views of ``size`` pixels per side; see ``rendering.render``."""
        shots = self.support_masks.shape[1]
        support = self.query[:, None].expand(-1, shots, -1, -1, -1) if self.support is None else self.support
        images, masks = render(
            torch.cat([self.query, support.flatten(0, 1)]),
            torch.cat([self.query_masks, self.support_masks.flatten(0, 1)]),
            torch.cat([self.query_views, self.support_views.flatten(0, 1)]),
            size,
        )
        count = len(self)
        query, target = images[:count], masks[:count]
        support, support_masks = images[count:], masks[count:]
        if self.partners is not None and self.placements is not None:
            query, target = paste_distractors(query, target, self.partners, self.placements)
        if self.partners is not None and self.layouts is not None:
            query, target = paste_collages(query, target, self.partners, self.layouts[:, 0])
            others = (self.partners[:, None] * shots + torch.arange(shots)).flatten()
            support, support_masks = paste_collages(support, support_masks, others, self.layouts[:, 1:].flatten(0, 1))
        return EpisodeBatch(
            query=query,
            target=target.long(),
            support_images=support.reshape(count, shots, *images.shape[1:]),
            support_masks=(support_masks == 1).float().reshape(count, shots, *masks.shape[1:]),
            ids=self.ids,
        )


_Batch = TypeVar("_Batch", EpisodeBatch, RawEpisodes)


def _move(batch: _Batch, device: Device, names: Iterable[str]) -> _Batch:
    tensors = {
        name: getattr(batch, name).to(device, non_blocking=True)
        for name in names
        if isinstance(getattr(batch, name), Tensor)
    }
    return replace(batch, **tensors)
