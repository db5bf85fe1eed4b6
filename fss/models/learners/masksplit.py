"""The MaskSplit network: prototypes of the support's foreground beside the query's features, and a decoder.

Amac et al., "MaskSplit: Self-supervised Meta-learning for Few-shot Semantic Segmentation", WACV 2022. With the
deep-stem ResNet-101 and masking ``none`` it is the published network. Any backbone serves: a map that does not stand on
the stride-8 grid is brought to it after its projection. The other masking strategies act on the
support maps before the projection. With ``similarity`` the network is also shown, on every level, how much each query
cell is like the support's foreground and background, which it otherwise has to learn to compute: beyond the paper.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import Features, map_features, resize
from fss.models.layers.norm import GroupNormReLU
from fss.models.learners.base import Channels, Learner
from fss.models.masking import Masking


def _conv(cin: int, cout: int) -> list[nn.Module]:
    # The identity stands where the published network has its ReLU, so that the key names agree.
    return [nn.Conv2d(cin, cout, 3, padding=1), GroupNormReLU(4, cout), nn.Identity()]


def _up() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class MaskSplit(Learner):
    """Projection, masked average prototype, fusion and decoder (5,454,224 parameters with a bottleneck ResNet)."""

    selection: ClassVar[MapSelection] = MapSelection(keep=("none", "last", "last", "last"), activated=True)

    def __init__(self, channels: Channels, width: int = 128, similarity: bool = False) -> None:
        super().__init__()
        self.similarity = similarity
        c8, c16, c32 = (stage[-1] for stage in channels[1:])
        self.projection1 = nn.Sequential(*_conv(c8, width))
        self.projection2 = nn.Sequential(*_conv(c16, width))
        self.projection3 = nn.Sequential(*_conv(c32, width))
        self.dense_conv = nn.Sequential(*_conv(6 * width + (6 if similarity else 0), width))
        half, quarter, eighth = width // 2, width // 4, width // 8
        self.decoder = nn.Sequential(
            *(*_conv(width, width), *_conv(width, width), _up()),
            *(*_conv(width, half), *_conv(half, half), _up()),
            *(*_conv(half, quarter), *_conv(quarter, quarter), _up()),
            *(*_conv(quarter, eighth), nn.Conv2d(eighth, 2, 1, bias=False)),
        )
        self._init_at_prior()

    @torch.no_grad()
    def _init_at_prior(self) -> None:
        """Let every channel before the last layer speak for one class, those for the background louder.

        The first guess is then about the share that half an object has of a picture. From a guess of one half the first
        steps press every channel that speaks for the object below zero, where its ReLU has no gradient, and some
        trainings never find an object (at a rate of 1e-3 one in three of width 128, all of width 64).
        """
        norm, last = self.decoder[-3], self.decoder[-1]
        assert isinstance(norm, nn.GroupNorm) and isinstance(last, nn.Conv2d)
        speaks = last.weight.new_ones(last.in_channels)
        speaks[1::2] = -1
        norm.bias.copy_((1 - speaks) / 2)
        last.weight.copy_(last.in_channels**-0.5 * torch.stack([-speaks, speaks])[:, :, None, None])

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "MaskSplit":
        """Build the head for a backbone."""
        if config.width < 32 or config.width % 32:
            raise ValueError(f"width is a multiple of 32, for the group normalisations, got {config.width}")
        return cls(channels, config.width, config.similarity)

    def embed_query(self, features: Features) -> Features:
        """Project the three maps to ``[N,128,h/8,w/8]`` each."""
        maps = [stage[-1] for stage in features[1:]]
        projections = (self.projection1, self.projection2, self.projection3)
        projected = [projection(m) for projection, m in zip(projections, maps, strict=True)]
        return [[resize(p, projected[0].shape[-2:])] for p in projected]

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask the maps, then project them like the query's."""
        return self.embed_query(map_features(lambda p, m: masking.merge(p, m, masks), plain, masked))

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits at 8 times the stride-8 grid; several shots share one prototype per level."""
        grid = support[0][0].shape[-2:]
        m = F.interpolate(masks[:, None].float(), grid, mode="nearest").reshape(-1, shots, 1, *grid)
        parts, similarities = [], []
        for (q,), (s,) in zip(query, support, strict=True):
            cells = s.reshape(-1, shots, *s.shape[1:])
            prototype = _pool(cells, m)
            parts += [q, prototype.to(q.dtype).expand_as(q)]
            if self.similarity:
                mean = _pool(cells, torch.ones_like(m))
                background = _pool(cells, 1 - m)
                similarities += [_cosine(q - mean, prototype - mean), _cosine(q - mean, background - mean)]
        parts += similarities
        return self.decoder(self.dense_conv(torch.cat(parts, 1)))  # type: ignore[no-any-return]


def _pool(cells: Tensor, weights: Tensor) -> Tensor:
    """Average ``[N,shots,C,h,w]`` over shots and cells with weights ``[N,shots,1,h,w]``: ``[N,C,1,1]``."""
    return ((cells * weights).sum((1, 3, 4)) / (weights.sum((1, 3, 4)) + 1e-5))[:, :, None, None]


def _cosine(cells: Tensor, vector: Tensor) -> Tensor:
    return F.cosine_similarity(cells, vector, dim=1)[:, None]
