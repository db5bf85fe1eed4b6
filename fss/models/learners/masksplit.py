"""The MaskSplit network: query features next to prototypes of the support's foreground, then a decoder.

Amac et al., "MaskSplit: Self-supervised Meta-learning for Few-shot Semantic Segmentation", WACV 2022, section 3. With
the deep-stem ResNet-101 and masking ``none`` it is the published network. Other backbones work too: maps that are not
on the stride-8 grid are resized to it after their projection. The other masking strategies act on the support maps
before the projection.

Two extensions of the paper: with ``similarity``, the input of the decoder also contains the cosine similarity of each
query cell to the support's foreground and background at every level. With ``density``, the network is trained alone,
and its answer is joined with that of the training-free learner ``density`` afterwards: the log odds are added, those of
the network times the agreement of the supports' masks with their saliency. Its pseudo-masks are salient objects, so it
is trusted where the supports ask for the salient object.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import Features, map_features, resize
from fss.models.layers.explicit_resize import resize_masks
from fss.models.layers.memory_format import channels_last
from fss.models.layers.norm import GroupNormReLU
from fss.models.learners.base import Channels, Learner
from fss.models.learners.density import Density
from fss.models.masking import Masking

_LEVELS = 3


def _conv(cin: int, cout: int) -> list[nn.Module]:
    # GroupNormReLU includes the ReLU. The identity takes its index, so that the key names are the published ones.
    return [nn.Conv2d(cin, cout, 3, padding=1), GroupNormReLU(4, cout), nn.Identity()]


def _up() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class MaskSplit(Learner):
    """Projections, prototypes by masked average pooling, fusion and decoder.

    With a bottleneck ResNet and width 128 the learner has 5,454,224 parameters. An image is embedded as three maps;
    those of ``density`` follow if it is given, but not in training.
    """

    selection: ClassVar[MapSelection] = MapSelection(keep=("none", "last", "last", "last"), activated=True)
    learns_alone = True

    def __init__(
        self, channels: Channels, width: int = 128, similarity: bool = False, density: Density | None = None
    ) -> None:
        super().__init__()
        self.similarity, self.density = similarity, density
        self.takes_prior = density is not None
        self.support_crop = density is not None and density.support_crop
        c8, c16, c32 = (stage[-1] for stage in channels[1:])
        self.projection1 = nn.Sequential(*_conv(c8, width))
        self.projection2 = nn.Sequential(*_conv(c16, width))
        self.projection3 = nn.Sequential(*_conv(c32, width))
        further = 2 * _LEVELS if similarity else 0
        self.dense_conv = nn.Sequential(*_conv(2 * _LEVELS * width + further, width))
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
        density = Density(config.density) if config.density_prior else None
        return cls(channels, config.width, config.similarity, density)

    def embed_query(self, features: Features) -> Features:
        """Project the three maps to ``[N,width,h/8,w/8]`` each, for images of h x w pixels."""
        maps = [channels_last(stage[-1]) for stage in features[1:4]]
        projections = (self.projection1, self.projection2, self.projection3)
        projected = [projection(m) for projection, m in zip(projections, maps, strict=True)]
        embedded = [[resize(p, projected[0].shape[-2:])] for p in projected]
        return embedded if self.density is None or self.training else [*embedded, *self.density.embed_query(features)]

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask the maps, then project them like those of the query; with ``density`` there is no masking."""
        if self.density is not None:
            return self.embed_query(plain)
        return self.embed_query(map_features(lambda p, m: masking.merge(p, m, masks), plain, masked))

    def add_crops(self, support: Features, crops: Features, masks: Tensor) -> Features:
        """Join supports with the crops around their objects, which only ``density`` compares."""
        assert self.density is not None
        return [*support[:_LEVELS], *self.density.add_crops(support[_LEVELS:], crops, masks)]

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits at 8 times the size of the stride-8 grid; all shots share one prototype per level."""
        grid = support[0][0].shape[-2:]
        m = resize_masks(masks, grid, "nearest").reshape(-1, shots, 1, *grid)
        prototypes, similarities = [], []
        for (q,), (s,) in zip(query[:_LEVELS], support[:_LEVELS], strict=True):
            cells = s.reshape(-1, shots, *s.shape[1:])
            prototype = _pool(cells, m)
            prototypes.append(prototype.to(q.dtype))
            if self.similarity:
                mean = _pool(cells, torch.ones_like(m))
                background = _pool(cells, 1 - m)
                similarities += [_cosine(q - mean, prototype - mean), _cosine(q - mean, background - mean)]
        logits = self.decoder(self._join([q for (q,) in query[:_LEVELS]], prototypes, similarities))
        if self.density is None or self.training:
            return logits  # type: ignore[no-any-return]
        evidence = self.density.compare(query[_LEVELS:], support[_LEVELS:], masks, shots)
        trust = 1.0 if evidence.agreement is None else evidence.agreement
        margin = trust * (logits[:, 1:] - logits[:, :1]) + resize(evidence.logit, logits.shape[-2:])
        return torch.cat([-margin / 2, margin / 2], 1)

    def _join(self, maps: Sequence[Tensor], prototypes: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Convolve the query's maps, the prototypes ``[N,width,1,1]`` beside them, and further channels.

        The prototypes are convolved on a grid of 3 x 3 cells, which is half of the work. Their maps are constant, so
        all inner cells are like its centre, and those at a border like its border.
        """
        conv = self.dense_conv[0]
        assert isinstance(conv, nn.Conv2d)
        sizes = [maps[0].shape[1]] * 2 * _LEVELS + [sum(x.shape[1] for x in others)]
        *levels, rest = torch.split(conv.weight, sizes, 1)
        images = channels_last(torch.cat([*maps, *others], 1))
        joined = F.conv2d(images, torch.cat([*levels[::2], rest], 1), conv.bias, padding=1)
        cells = [min(side, 3) for side in joined.shape[-2:]]
        constant = torch.cat([*prototypes], 1).expand(-1, -1, *cells)
        small = F.conv2d(constant, torch.cat(levels[1::2], 1), padding=1)
        return self.dense_conv[1:](joined + _repeat_centre(small, joined.shape[-2:]))  # type: ignore[no-any-return]


def _repeat_centre(small: Tensor, size: Sequence[int]) -> Tensor:
    """Grow the 3 x 3 cells of ``[N,C,3,3]`` to ``size`` by repeating the middle row and column."""
    for dim, side in ((2, size[0]), (3, size[1])):
        if side > 3:
            first, centre, last = torch.split(small, 1, dim)
            shape = [*centre.shape[:dim], side - 2, *centre.shape[dim + 1 :]]
            small = torch.cat([first, centre.expand(shape), last], dim)
    return small


def _pool(cells: Tensor, weights: Tensor) -> Tensor:
    """Average ``[N,shots,C,h,w]`` over shots and cells with weights ``[N,shots,1,h,w]``: ``[N,C,1,1]``."""
    return ((cells * weights).sum((1, 3, 4)) / (weights.sum((1, 3, 4)) + 1e-5))[:, :, None, None]


def _cosine(cells: Tensor, vector: Tensor) -> Tensor:
    return F.cosine_similarity(cells, vector, dim=1)[:, None]
