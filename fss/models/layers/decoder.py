"""The 2-D decoder of HSNet and ASNet, with the published key names ``decoder1.{0,2}`` and ``decoder2.{0,2}``."""

from torch import Tensor, nn
from torch.nn import functional as F


def decoder_modules() -> tuple[nn.Sequential, nn.Sequential]:
    """Return the modules before and after the decoder's upsampling."""
    return (
        nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 64, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 2, 3, padding=1)),
    )


def decode(decoder1: nn.Module, decoder2: nn.Module, x: Tensor) -> Tensor:
    """Decode features ``[B,hq,wq,128]`` to logits ``[B,2,2hq,2wq]``."""
    x = decoder1(x.permute(0, 3, 1, 2))
    return decoder2(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))  # type: ignore[no-any-return]
