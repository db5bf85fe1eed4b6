"""ASNet: self-attention squeezes the support dimensions of the correlation at every query position.

Kang and Cho, "Integrative Few-Shot Learning for Classification and Segmentation", CVPR 2022, section 5. Module and key
names are the published ones. Masking ``none`` is the published network, which masks only the attention; masking
``hybrid`` is ASNet-HM of Moon et al., ECCV 2022.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import Features, map_features
from fss.models.layers.correlation import correlate, l2_normalise, mean_shots, resize_query
from fss.models.layers.decoder import decode, decoder_modules
from fss.models.learners.asnet_layers import SqueezeLayer
from fss.models.learners.base import Channels, Learner
from fss.models.masking import Masking


class ASNet(Learner):
    """Three encoders of two attentive squeeze layers, top-down mixing over the query, and HSNet's 2-D decoder."""

    selection: ClassVar[MapSelection] = MapSelection(keep=("none", "all", "all", "all"))
    shares_embedding: ClassVar[bool] = False

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        l2, l3, l4 = (len(stage) for stage in channels[1:])
        self.encoder_layer4 = nn.ModuleList([SqueezeLayer(l4, 32, 5), SqueezeLayer(32, 128, 3)])
        self.encoder_layer3 = _pooling_encoder(l3)
        self.encoder_layer2 = _pooling_encoder(l2)
        self.encoder_layer4to3 = nn.ModuleList([SqueezeLayer(128, 128, 1), SqueezeLayer(128, 128, 2)])
        self.encoder_layer3to2 = nn.ModuleList([SqueezeLayer(128, 128, 1), SqueezeLayer(128, 128, 2)])
        self.decoder1, self.decoder2 = decoder_modules()

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "ASNet":
        """Build the learner for a backbone."""
        return cls(channels)

    def embed_query(self, features: Features) -> Features:
        """Scale the maps to unit length."""
        return map_features(l2_normalise, features)

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Average-pool the stride-8 maps, mask all maps and scale them to unit length."""
        pooled = [pool_stride8(features) for features in ((plain,) if plain is masked else (plain, masked))]
        return map_features(lambda p, m: l2_normalise(masking.merge(p, m, masks)), pooled[0], pooled[-1])

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits at twice the size of the stride-8 grid; shots are averaged after the encoders."""
        strides = support_strides(support[3][0].shape[-2:])
        encoders = (self.encoder_layer2, self.encoder_layer3, self.encoder_layer4)
        e2, e3, e4 = (
            mean_shots(squeeze(encoder, correlate(q, s, shots), masks, steps), shots)
            for encoder, q, s, steps in zip(encoders, query[1:], support[1:], strides, strict=True)
        )
        visible = masks if shots == 1 else masks.view(-1, shots, *masks.shape[1:]).amax(1)
        x = resize_query(_mean_support(e4), e3.shape[1:3]) + e3
        for layer in self.encoder_layer4to3:
            x = layer(x, visible)
        x = resize_query(_mean_support(x), e2.shape[1:3]) + e2
        for layer in self.encoder_layer3to2:
            x = layer(x, visible)
        return decode(self.decoder1, self.decoder2, x.mean((3, 4)))


def _pooling_encoder(maps: int) -> nn.ModuleList:
    return nn.ModuleList([SqueezeLayer(maps, 32, 5, pool_kv=True), SqueezeLayer(32, 128, 5, pool_kv=True)])


def squeeze(encoder: nn.ModuleList, correlation: Tensor, masks: Tensor, strides: Sequence[int]) -> Tensor:
    """Run the two layers of an encoder on a raw correlation ``[B,hq,wq,L,hs,ws]``."""
    volume: Tensor = encoder[0](correlation, masks, strides[0], raw=True)
    return encoder[1](volume, masks, strides[1])  # type: ignore[no-any-return]


def pool_stride8(features: Features) -> Features:
    """Halve the support maps of the stride-8 stage, from 50 to 25 cells at 400 pixels. The average includes padding."""
    return [*features[:1], [F.avg_pool2d(m, 3, 2, 1) for m in features[1]], *features[2:]]


def support_strides(deepest: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the support strides of the two layers in each encoder (layers 2, 3 and 4).

    The published strides reduce 400-pixel images to 2 x 2 support cells. Smaller images use smaller strides, so that
    the grid stays 2 x 2: half of them below 257 pixels (at most 8 cells in layer 4), a quarter below 129 (at most 4
    cells).

    Args:
        deepest: height and width of layer 4's support grid, in cells.
    """
    cells = min(deepest)
    if cells > 8:
        return (4, 4), (4, 4), (4, 2)
    if cells > 4:
        return (4, 2), (4, 2), (2, 2)
    return (4, 1), (4, 1), (2, 1)


def _mean_support(volume: Tensor) -> Tensor:
    return volume.mean((3, 4), keepdim=True)
