"""The MaskSplit network: query features next to prototypes of the support's foreground, then a decoder.

Amac et al., "MaskSplit: Self-supervised Meta-learning for Few-shot Semantic Segmentation", WACV 2022, section 3. With
the deep-stem ResNet-101 and masking ``none`` it is the published network. Other backbones work too: maps that are not
on the stride-8 grid are resized to it after their projection. The other masking strategies act on the support maps
before the projection. With ``similarity``, an extension of the paper, the input of the decoder also contains the cosine
similarity of each query cell to the support's foreground and background at every level.
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
    # GroupNormReLU includes the ReLU. The identity takes its index, so that the key names are the published ones.
    return [nn.Conv2d(cin, cout, 3, padding=1), GroupNormReLU(4, cout), nn.Identity()]


def _up() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class MaskSplit(Learner):
    """Projections, prototypes by masked average pooling, fusion and decoder.

    With a bottleneck ResNet and width 128 the learner has 5,454,224 parameters.
    """

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
        """Initialise the last layer so that the predicted foreground starts near a typical share of the image.

        Each channel before the last layer votes for one class, and the biases favour the background. If the prediction
        started at one half, the first steps would push all foreground channels below zero, where ReLU has no gradient,
        and some trainings would never predict an object: at a learning rate of 1e-3, one in three with width 128 and
        all with width 64.
        """
        norm, last = self.decoder[-3], self.decoder[-1]
        assert isinstance(norm, nn.GroupNorm) and isinstance(last, nn.Conv2d)
        votes = last.weight.new_ones(last.in_channels)
        votes[1::2] = -1
        norm.bias.copy_((1 - votes) / 2)
        last.weight.copy_(last.in_channels**-0.5 * torch.stack([-votes, votes])[:, :, None, None])

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "MaskSplit":
        """Create the learner for a backbone."""
        return cls(channels, config.width, config.similarity)

    def embed_query(self, features: Features) -> Features:
        """Project the three maps to ``[N,width,h/8,w/8]`` each, for images of h x w pixels."""
        maps = [stage[-1] for stage in features[1:]]
        projections = (self.projection1, self.projection2, self.projection3)
        projected = [projection(m) for projection, m in zip(projections, maps, strict=True)]
        return [[resize(p, projected[0].shape[-2:])] for p in projected]

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask the maps, then project them like those of the query."""
        return self.embed_query(map_features(lambda p, m: masking.merge(p, m, masks), plain, masked))

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits at 8 times the size of the stride-8 grid; all shots share one prototype per level."""
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
