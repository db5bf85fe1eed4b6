"""VAT: volumetric aggregation with convolutional 4-D Swin transformers.

Hong et al., "Cost Aggregation with 4D Convolutional Swin Transformer for Few-Shot Segmentation", ECCV 2022, section 4.
Masking ``feature`` is the published network, which masks after resizing; masking ``hybrid`` is that of Moon et al.,
ECCV 2022, which masks before resizing.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import REDUCTIONS, Features, map_features, resize
from fss.models.layers.correlation import correlate, l2_normalise, mean_shots, resize_query
from fss.models.layers.dropout import EpisodeDropout2d
from fss.models.learners.base import Channels, Learner
from fss.models.learners.swin import SwinStack
from fss.models.learners.vat_embedding import embedding_encoder
from fss.models.masking import Masking, mask_features

# Whether the released models of a benchmark use the affinities of layer 3, layer 2 and layer 1.
AFFINITIES = {"pascal": (False, True, True), "coco": (False, False, True), "fss": (True, True, True)}
_AFFINITY_WIDTHS = (64, 32, 16)
_STAGE_WIDTHS = (128, 96, 48)


class VAT(Learner):
    """Volume embedding, 4-D Swin aggregation from coarse to fine, and a 2-D Swin decoder with appearance affinities."""

    selection: ClassVar[MapSelection] = MapSelection(keep=("last", "all", "all", "all"))
    shares_embedding: ClassVar[bool] = False

    def __init__(self, channels: Channels, affinities: tuple[bool, bool, bool], grid: int) -> None:
        super().__init__()
        if grid <= 0 or grid % 64:
            raise ValueError(f"grid must be a positive multiple of 64, got {grid}")
        self.uses_affinity, self.grid = affinities, grid
        l2, l3, l4 = (len(stage) for stage in channels[1:])
        self.encoders = nn.ModuleList(
            [
                embedding_encoder((l4, 64, 128), ((2, 1), (1, 2)), (4, 8)),
                embedding_encoder((l3, 64, 128), ((2, 2), (1, 2)), (4, 8)),
                embedding_encoder((l2, 32, 64, 128), ((2, 2), (1, 2), (1, 2)), (2, 4, 8)),
            ]
        )
        self.transformers = nn.ModuleList([SwinStack(128, 4, 4, depth) for depth in (4, 2, 2)])
        deep = (channels[2][-1], channels[1][-1], channels[0][-1])
        self.affinities = nn.ModuleList([nn.Conv2d(c, w, 1) for c, w in zip(deep, _AFFINITY_WIDTHS, strict=True)])
        widths = [s + a * use for s, a, use in zip(_STAGE_WIDTHS, _AFFINITY_WIDTHS, affinities, strict=True)]
        self.stages = nn.ModuleList([SwinStack(width, 8, 2, 2) for width in widths])
        self.reductions = nn.ModuleList([nn.Conv2d(widths[i], _STAGE_WIDTHS[i + 1], 1) for i in range(2)])
        self.dropout = EpisodeDropout2d(0.5)
        self.decoder = nn.Sequential(nn.Conv2d(widths[2], 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 2, 3, padding=1))
        for module in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "VAT":
        """Create the learner for a backbone, with the affinities of the configured benchmark."""
        if config.benchmark not in AFFINITIES:
            raise ValueError(f"unknown benchmark {config.benchmark!r}; choose one of {', '.join(AFFINITIES)}")
        assert config.grid is not None
        return cls(channels, AFFINITIES[config.benchmark], config.grid)

    def unused_parameters(self) -> list[str]:
        """Return the names of parameters that the published network has but never uses."""
        prefixes = [f"affinities.{i}." for i, use in enumerate(self.uses_affinity) if not use]
        prefixes += [f"transformers.{i}.norm." for i in range(3)]
        return [name for name, _ in self.named_parameters() if name.startswith(tuple(prefixes))]

    def resize(self, features: Features) -> Features:
        """Resize the four stages to the working grids of 128, 64, 32 and 16 cells a side (for ``grid`` 128)."""
        sides = [self.grid * REDUCTIONS[0] // reduction for reduction in REDUCTIONS]
        return [[resize(m, (side, side)) for m in stage] for stage, side in zip(features, sides, strict=True)]

    def embed_query(self, features: Features) -> Features:
        """Resize the maps and scale them to unit length.

        The unscaled last map of a stage follows the scaled ones if an affinity uses it.
        """
        features = self.resize(features)
        used = [*reversed(self.uses_affinity), False]
        plain = [stage[-1:] if use else [] for stage, use in zip(features, used, strict=True)]
        return [
            plain[0],
            *([*map(l2_normalise, stage), *last] for stage, last in zip(features[1:], plain[1:], strict=True)),
        ]

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask, resize and scale the maps; only feature masking is applied after resizing. Stride 4 is not used."""
        plain, masked = [[], *plain[1:]], [[], *masked[1:]]
        if masking.name == "feature":
            return map_features(lambda m: l2_normalise(mask_features(m, masks)), self.resize(plain))
        return map_features(
            l2_normalise, self.resize(map_features(lambda p, m: masking.merge(p, m, masks), plain, masked))
        )

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits at the size of the largest grid; shots are averaged after the volume embedding."""
        volumes = [
            mean_shots(encoder(correlate(query[stage][: len(support[stage])], support[stage], shots)), shots)
            for encoder, stage in zip(self.encoders, (3, 2, 1), strict=True)
        ]
        x = volumes[0] + self.transformers[0](volumes[0])
        for volume, transformer in zip(volumes[1:], self.transformers[1:], strict=True):
            x = volume + resize_query(x, volume.shape[1:3])
            x = x + transformer(x)
        return self.decode(x.mean((3, 4)), query)

    def decode(self, x: Tensor, query: Features) -> Tensor:
        """Decode ``[B,grid/4,grid/4,128]`` with the query's affinities to logits ``[B,2,grid,grid]``."""
        for i, (stack, affinity, use) in enumerate(zip(self.stages, self.affinities, self.uses_affinity, strict=True)):
            if use:
                a = affinity(query[2 - i][-1]).relu()
                a = self.dropout(a, i) if i < 2 else a
                x = torch.cat([x, a.permute(0, 2, 3, 1)], -1)
            assert isinstance(stack, SwinStack)
            x = x + stack.norm(stack(x))
            if i < 2:
                x = self.reductions[i](x.permute(0, 3, 1, 2))
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
        return self.decoder(x.permute(0, 3, 1, 2))  # type: ignore[no-any-return]
