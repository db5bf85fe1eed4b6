"""A feature pyramid from one grid of tokens, for semantic networks on plain vision transformers.

The simple feature pyramid of ViTDet (Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection",
ECCV 2022, section 3): each level is made from the tokens of one block alone, by transposed convolutions for finer
levels, and then by a 1x1 and a 3x3 convolution, each with layer normalisation. There is no path from level to level.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.token_grid import cell_count, resample_tokens
from fss.models.backbones.vit import VitBackbone

WIDTH = 256
"""Channels of every level, as in ViTDet."""


class Levels(NamedTuple):
    """The maps that semantic heads take."""

    low: Tensor
    """Map ``[B,WIDTH,H/8,W/8]`` of the last block."""
    shared: Tensor
    """Map of the last block of the third stage, at reduction 16 or the output stride, whichever is finer."""
    last: Tensor
    """Map of the last block, at the output stride."""


class SimplePyramid(nn.Module):
    """The levels that the heads of a network use, from the tokens of a plain vision transformer."""

    def __init__(self, channels: int, patch: int, stride: int, *, low: bool, shared: bool) -> None:
        """Create the pyramid.

        Args:
            channels: channels of the tokens.
            patch: side of a patch, in pixels.
            stride: the output stride.
            low: whether a head uses the map at reduction 8.
            shared: whether a head uses the map before the last stage.
        """
        super().__init__()
        self.patch = patch
        used = {"low": 8 if low else 0, "shared": min(16, stride) if shared else 0, "last": stride}
        self.reductions = {name: reduction for name, reduction in used.items() if reduction}
        self.factors = {name: max(1, round(patch / reduction)) for name, reduction in self.reductions.items()}
        self.levels = nn.ModuleDict({name: _level(channels, factor) for name, factor in self.factors.items()})

    def forward(self, backbone: VitBackbone, images: Tensor) -> Levels:
        """Return the levels of normalised images ``[B,3,H,W]``; ``backbone`` has one map each in its last stages.

        The last map stands in for a level that no head uses.
        """
        (shared,), (last,) = backbone.stage_blocks[2:]
        blocks = {"low": last, "shared": shared, "last": last}
        tokens = backbone.token_maps(images, sorted({blocks[name] for name in self.reductions}))
        size, maps = images.shape[-2:], {}
        for name, level in self.levels.items():
            cells = [cell_count(side, self.reductions[name]) for side in size]
            maps[name] = resample_tokens(level(tokens[blocks[name]]), self.patch / self.factors[name], size, cells)
        return Levels(*(maps.get(name, maps["last"]) for name in Levels._fields))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of ``[B,C,h,w]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each cell by itself."""
        return F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


def _level(channels: int, factor: int) -> nn.Sequential:
    """Return the layers that enlarge tokens ``factor`` times, a power of 2, and project them to the pyramid's width."""
    layers: list[nn.Module] = []
    while factor > 1:
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels, factor = channels // 2, factor // 2
        if factor > 1:
            layers += [ChannelNorm(channels), nn.GELU()]
    convolutions = [nn.Conv2d(channels, WIDTH, 1, bias=False), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
    for convolution in convolutions:
        layers += [convolution, ChannelNorm(WIDTH)]
    return nn.Sequential(*layers)
