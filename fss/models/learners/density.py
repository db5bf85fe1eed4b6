"""The training-free learner: the ratio of the densities of the support's foreground and background.

The features of the support's cells are two weighted point clouds on a sphere, foreground and background. A query cell
is foreground where the foreground's density exceeds that of the background. The densities are kernel estimates with the
von Mises-Fisher kernel ``exp(bandwidth * cosine)``, so the logit is a difference of log-mean-exps.

Source: the density ratio on frozen features is that of Park, "FROST: Training-Free Few-Shot Segmentation with Frozen
Features and Nonparametric Statistics", arXiv 2606.31136, 2026. What differs: the features are two maps of any backbone,
centred over each picture, instead of one map of DINOv3; the bandwidth is a setting instead of a number read from the
supports; the supports are also seen in a crop around their object; and the saliency of the query takes the part of the
spatial gate. Its weight is read from the supports: it is proportional to the least IoU of their saliency with their
masks, because the salient object of the query is likely what is asked for if it is so in every support.

The log ratio is averaged twice over the query's own cells with weights ``softmax(smoothing * cosine)``, so that cells
that look alike are decided alike. FSSDINO ("Gram refinement", arXiv 2602.07550, 2026) has the same aim.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fss.models.backbones.base import MapSelection
from fss.models.config import DensityConfig, SegmenterConfig
from fss.models.features import Features, resize
from fss.models.layers.explicit_resize import resize_masks
from fss.models.learners.base import Channels, Learner
from fss.models.masking import Masking

_LARGEST_BLOCK = 2**24  # similarities at once, 64 MiB
_SMOOTHINGS = 2
_LEAST_WEIGHT = 1e-6  # below it, the weight of a cell is rounding


class Evidence(NamedTuple):
    """What the learner compares, and its answer, for N queries."""

    ratio: Tensor
    """Log ratio of the densities ``[N,1,h,w]``, on the grid of the cells."""
    prior: Tensor | None
    """Saliency of the query ``[N,1,h',w']`` in 0..1, on its own grid. None: there is no saliency prior."""
    agreement: Tensor | None
    """How far the supports' saliency is their masks, ``[N,1,1,1]`` in 0..1. None: there is no saliency prior."""
    logit: Tensor
    """Logit of the foreground ``[N,1,h,w]``, on the finer one of the grids."""


class Density(Learner):
    """Density ratio of two point clouds per episode; it has no parameters.

    A query is embedded as ``[[cells], [prior]]``, or without a prior as ``[[cells]]``. A support is embedded as
    ``[[cells], [cells of the crop], [weights of the crop], [prior]]``, without the crop's if ``support_crop`` is off.
    """

    selection: ClassVar[MapSelection] = MapSelection(keep=("none", "none", "last", "last"), activated=True)
    takes_prior = True

    def __init__(self, config: DensityConfig) -> None:
        super().__init__()
        self.settings = config
        self.support_crop = config.support_crop

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "Density":
        """Create the learner; it is the same for every backbone."""
        return cls(config.density)

    def embed_query(self, features: Features) -> Features:
        """Join the maps of reductions 16 and 32 on the finer grid, as vectors of unit length and equal parts."""
        shallow, deep = (_centred_unit(stage[-1]) for stage in features[2:4])
        cells = F.normalize(torch.cat([shallow, resize(deep, shallow.shape[-2:])], 1), dim=1)
        return [[cells], *features[4:]]

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Embed supports like queries; the masks divide their cells later."""
        return self.embed_query(plain)

    def add_crops(self, support: Features, crops: Features, masks: Tensor) -> Features:
        """Keep the cells of the crops, and their weights, beside those of the supports."""
        (cropped,) = self.embed_query(crops)[0]
        return [support[0], [cropped], [_weights(masks, cropped)], *support[1:]]

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Return logits on the grid of the cells or, if it is finer, on that of the prior; all shots form one cloud."""
        logit = self.compare(query, support, masks, shots).logit
        return torch.cat([-logit / 2, logit / 2], 1)

    def compare(self, query: Features, support: Features, masks: Tensor, shots: int) -> Evidence:
        """Return the logits of :meth:`forward` and what they are made of."""
        (cells,) = query[0]
        clouds = [(support[0][0], _weights(masks, support[0][0]))]
        if self.support_crop:
            clouds.append((support[1][0], support[2][0]))
        points = torch.cat([_flatten(points, shots) for points, _ in clouds], 1)
        weights = torch.cat([_flatten(weights, shots)[..., 0] for _, weights in clouds], 1)
        queries = _flatten(cells, 1)
        ratio = log_density_ratio(queries, points, weights, self.settings.bandwidth)
        if self.settings.smoothing:
            ratio = average_over_similar(ratio, queries, self.settings.smoothing, times=_SMOOTHINGS)
        ratio = ratio.reshape(-1, 1, *cells.shape[-2:])
        logit = ratio - self.settings.cut
        if len(query) == 1:
            return Evidence(ratio, None, None, logit)
        (prior,) = query[1]
        size = [max(sides) for sides in zip(cells.shape[-2:], prior.shape[-2:], strict=True)]
        agreement = _agreement(support[-1][0], masks, shots)
        weight = self.settings.prior_weight * agreement
        logit = resize(logit, size) + weight * (resize(prior, size) - self.settings.prior_center)
        return Evidence(ratio, prior, agreement, logit)


def log_density_ratio(queries: Tensor, points: Tensor, weights: Tensor, bandwidth: float) -> Tensor:
    """Return the log of the foreground's density over the background's at the query cells, ``[N,Q]``.

    Where the supports have no background, its density counts as that of features at a right angle; where they have no
    foreground, its density counts as that of opposite features.

    Args:
        queries: features of the query cells ``[N,Q,C]``; products of features are cosines.
        points: features of the support cells ``[N,P,C]``.
        weights: share of each support cell in the foreground ``[N,P]``; the rest is background.
        bandwidth: factor of the cosines in the exponent.
    """
    rows = max(1, _LARGEST_BLOCK // (points.shape[0] * points.shape[1]))
    transposed = points.transpose(1, 2)
    ratios = []
    for block in torch.split(queries, rows, 1):
        exponents = bandwidth * (block @ transposed).float()
        foreground = _log_mean_exp(exponents, weights, empty=-bandwidth)
        ratios.append(foreground - _log_mean_exp(exponents, 1 - weights, empty=0.0))
    return torch.cat(ratios, 1)


def average_over_similar(values: Tensor, cells: Tensor, concentration: float, *, times: int = 1) -> Tensor:
    """Average values ``[N,Q]`` of cells ``[N,Q,C]`` with weights ``softmax(concentration * cosine)``: ``[N,Q]``."""
    rows = max(1, _LARGEST_BLOCK // (cells.shape[0] * cells.shape[1]))
    blocks, transposed = torch.split(cells, rows, 1), cells.transpose(1, 2)

    def weights(block: Tensor) -> Tensor:
        return (concentration * (block @ transposed).float()).softmax(2)

    kept = weights(cells) if len(blocks) == 1 else None  # the weights of several blocks would not fit into memory
    for _ in range(times):
        averages = [(weights(block) if kept is None else kept) @ values[..., None] for block in blocks]
        values = torch.cat(averages, 1)[..., 0]
    return values


def _agreement(saliency: Tensor, masks: Tensor, shots: int) -> Tensor:
    """Return the least IoU over the shots of the supports' saliency with their masks, ``[N,1,1,1]``.

    Args:
        saliency: probability of the salient object ``[N * shots,1,h,w]``.
        masks: masks of the supports ``[N * shots,H,W]``.
        shots: supports per episode.
    """
    covered = _weights(masks, saliency)
    intersection = (saliency * covered).sum((1, 2, 3))
    union = (saliency + covered - saliency * covered).sum((1, 2, 3))
    return (intersection / union.clamp(min=1e-6)).reshape(-1, shots).amin(1)[:, None, None, None]


def _log_mean_exp(exponents: Tensor, weights: Tensor, *, empty: float) -> Tensor:
    """Return the log of the weighted mean of ``exp(exponents [N,Q,P])`` over P, ``[N,Q]``; ``empty`` without weight."""
    weights = torch.where(weights > _LEAST_WEIGHT, weights, 0.0)
    total = weights.sum(1, keepdim=True)
    value = torch.logsumexp(exponents + weights.log()[:, None], 2) - total.log()
    return torch.where(total > 0, value, empty)


def _centred_unit(x: Tensor) -> Tensor:
    """Subtract the mean over the picture from each cell of ``[N,C,h,w]``, and scale the cells to unit length."""
    return F.normalize(x - x.mean((2, 3), keepdim=True), dim=1)


def _weights(masks: Tensor, cells: Tensor) -> Tensor:
    """Return the share ``[N,1,h,w]`` of each cell that the masks ``[N,H,W]`` cover."""
    return resize_masks(masks, cells.shape[-2:], "area")


def _flatten(maps: Tensor, shots: int) -> Tensor:
    """Turn the maps ``[N * shots,C,h,w]`` into the cells of each episode, ``[N,shots * h * w,C]``."""
    n, channels = maps.shape[0] // shots, maps.shape[1]
    return maps.reshape(n, shots, channels, -1).transpose(2, 3).reshape(n, -1, channels)
