"""Test-time views of an image (mirrored, rescaled) and the inverse mapping of their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from fss.episodes.rendering import normalize_imagenet


@dataclass(frozen=True, kw_only=True)
class View:
    """A test-time transformation of square images."""

    flip: bool = False
    """Whether the view is mirrored left to right."""
    scale: float = 1.0
    """Side of the view divided by the side of the image."""

    def side(self, size: int) -> int:
        """Return the side of the view in pixels, for an image of ``size`` pixels a side."""
        return round(size * self.scale)

    def apply(self, images: Tensor) -> Tensor:
        """Transform images [B,C,S,S] to this view, [B,C,s,s]."""
        side = self.side(images.shape[-1])
        if side != images.shape[-1]:
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return images.flip(-1) if self.flip else images

    def undo(self, maps: Tensor, size: int) -> Tensor:
        """Map predictions for the view, [B,C,s,s], back to the image, [B,C,size,size]."""
        maps = maps.flip(-1) if self.flip else maps
        if maps.shape[-1] == size:
            return maps
        return F.interpolate(maps, (size, size), mode="bilinear", align_corners=False, antialias=True)


def make_views(*, flip: bool, scales: Sequence[float]) -> tuple[View, ...]:
    """Return all combinations of scales and mirroring; the first view is the unchanged image."""
    ordered = sorted(set(scales), key=lambda scale: (scale != 1.0, scale))
    return tuple(
        View(flip=mirrored, scale=scale) for scale in ordered for mirrored in ((False, True) if flip else (False,))
    )


def network_input(canvases: Tensor, view: View) -> Tensor:
    """Transform RGB canvases, uint8 [B,S,S,3], to a view and normalise them: float32 [B,3,s,s]."""
    return normalize_imagenet(view.apply(canvases.permute(0, 3, 1, 2).float() / 255))
