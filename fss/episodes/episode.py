"""Episodes as tensors: raw ones, as they travel to the device, and rendered ones, as a network takes them.

B episodes, K supports each, canvases of C x C pixels, images of S x S pixels.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from fss.episodes.distractors import paste_distractors
from fss.episodes.rendering import render

Device = str | torch.device


@dataclass(frozen=True)
class EpisodeBatch:
    """Episodes that a segmenter takes."""

    query: Tensor
    """float32 [B, 3, S, S], ImageNet-normalised."""
    target: Tensor
    """long [B, S, S]: 1 object, 0 background, 255 ignored."""
    support_images: Tensor
    """float32 [B, K, 3, S, S], ImageNet-normalised."""
    support_masks: Tensor
    """float32 [B, K, S, S]: 1 object, else 0."""
    ids: tuple[str, ...]
    """For each episode the image or episode it was made of."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Device) -> "EpisodeBatch":
        """Move the tensors."""
        return _move(self, device)

    def chunks(self, count: int) -> list["EpisodeBatch"]:
        """Cut the batch into at most ``count`` batches of nearly the same size, in order."""
        size = -(-len(self) // count)
        starts = range(0, len(self), size)
        return [
            EpisodeBatch(**{field.name: getattr(self, field.name)[start : start + size] for field in fields(self)})
            for start in starts
        ]


@dataclass(frozen=True)
class RawEpisodes:
    """Episodes before their augmentation: uint8 canvases and the numbers of each view."""

    query: Tensor
    """uint8 [B, 3, C, C]."""
    query_masks: Tensor
    """uint8 [B, C, C] in {0, 1, 255}."""
    query_views: Tensor
    """float32 [B, 12], see ``augment.View``."""
    support_masks: Tensor
    """uint8 [B, K, C, C] in {0, 1, 255}."""
    support_views: Tensor
    """float32 [B, K, 12]."""
    ids: tuple[str, ...]
    """For each episode the image or episode it is made of."""
    support: Tensor | None = None
    """uint8 [B, K, 3, C, C]; None where every support is the query's picture, which then travels once."""
    partners: Tensor | None = None
    """long [B], the row whose object may be pasted into each query; None: no distractors."""
    placements: Tensor | None = None
    """float32 [B, 3], where it is pasted, see ``distract.Placement``."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Device) -> "RawEpisodes":
        """Move the tensors."""
        return _move(self, device)

    def render(self, size: int) -> EpisodeBatch:
        """Warp pictures and masks into their views, on the device where the tensors are; see ``render.render``."""
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
        if self.partners is not None and self.placements is not None:
            query, target = paste_distractors(query, target, self.partners, self.placements)
        return EpisodeBatch(
            query=query,
            target=target.long(),
            support_images=images[count:].reshape(count, shots, *images.shape[1:]),
            support_masks=(masks[count:] == 1).float().reshape(count, shots, *masks.shape[1:]),
            ids=self.ids,
        )


_Batch = TypeVar("_Batch", EpisodeBatch, RawEpisodes)


def _move(batch: _Batch, device: Device) -> _Batch:
    tensors = {
        field.name: getattr(batch, field.name).to(device, non_blocking=True)
        for field in fields(batch)
        if isinstance(getattr(batch, field.name), Tensor)
    }
    return replace(batch, **tensors)
