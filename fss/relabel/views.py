"""Views of a picture, and the way back from a view's map to the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from fss.episodes.rendering import normalise


@dataclass(frozen=True, kw_only=True)
class View:
    """One way to look at a picture."""

    flip: bool = False
    """Mirrored, left to right."""
    scale: float = 1.0
    """Side of the view over the side of the picture."""

    def side(self, size: int) -> int:
        """Pixels a side of the view of a picture of ``size`` pixels a side."""
        return round(size * self.scale)

    def apply(self, images: Tensor) -> Tensor:
        """Show pictures [B,C,S,S] as this view, [B,C,s,s]."""
        side = self.side(images.shape[-1])
        if side != images.shape[-1]:
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return images.flip(-1) if self.flip else images

    def undo(self, maps: Tensor, size: int) -> Tensor:
        """Turn maps of the view, [B,C,s,s], into maps of the picture, [B,C,size,size]."""
        maps = maps.flip(-1) if self.flip else maps
        if maps.shape[-1] == size:
            return maps
        return F.interpolate(maps, (size, size), mode="bilinear", align_corners=False, antialias=True)


def make_views(*, flip: bool, scales: Sequence[float]) -> tuple[View, ...]:
    """All combinations of scales and mirroring, the picture as it is first."""
    ordered = sorted(set(scales), key=lambda scale: (scale != 1.0, scale))
    return tuple(
        View(flip=mirrored, scale=scale) for scale in ordered for mirrored in ((False, True) if flip else (False,))
    )


def network_input(canvases: Tensor, view: View) -> Tensor:
    """Show uint8 canvases [B,S,S,3] in RGB as a view, normalised, float32 [B,3,s,s]."""
    return normalise(view.apply(canvases.permute(0, 3, 1, 2).float() / 255))
