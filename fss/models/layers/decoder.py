"""The 2-D decoder that HSNet and ASNet share: keys ``decoder1.{0,2}`` and ``decoder2.{0,2}``."""

from torch import Tensor, nn
from torch.nn import functional as F


def decoder_modules() -> tuple[nn.Sequential, nn.Sequential]:
    """Return the two halves of the decoder, before and after its upsampling."""
    return (
        nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 64, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 2, 3, padding=1)),
    )


def decode(decoder1: nn.Module, decoder2: nn.Module, x: Tensor) -> Tensor:
    """Turn ``[B,hq,wq,128]`` into logits ``[B,2,2hq,2wq]``."""
    x = decoder1(x.permute(0, 3, 1, 2))
    return decoder2(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))  # type: ignore[no-any-return]


def check_support_grids(e2: Tensor, e3: Tensor, e4: Tensor) -> None:
    """Refuse squeezed volumes ``[B,hq,wq,hs,ws,C]`` whose support grids differ, as odd image sizes can give."""
    grids = [tuple(e.shape[3:5]) for e in (e2, e3, e4)]
    if len(set(grids)) > 1:
        raise ValueError(
            f"this image size leaves support grids of {grids} cells at the three levels, which cannot be added; "
            "use a size whose sides are multiples of 32, such as 224, 256, 384 or 416, or 400 with a ResNet"
        )
