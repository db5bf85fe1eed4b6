"""Refinement of a coarse cue map along the edges of the image.

A colour model of object and background alternates with edge-aware smoothing, as in GrabCut (Rother et al., SIGGRAPH
2004), with histograms in place of mixtures and the bilateral solver in place of the graph cut. Both work on the
vertices of one bilateral grid.
"""

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from fss.core.arrays import BoolArray, Float32, Float64
from fss.saliency.classical.bilateral_solver import Grid, build_grid, solve


def refine(
    lab: Float32,
    cue: Float32,
    threshold: float,
    *,
    rounds: int = 2,
    slope: float = 8.0,
    colour_weight: float = 1.0,
    strength: float = 32.0,
    spatial: float = 16.0,
    lightness: float = 4.0,
    chroma: float = 5.0,
) -> Float32:
    """Sharpen a cue map to a probability of the object.

    Args:
        lab: CIELAB image, float32 [H,W,3].
        cue: saliency in 0..1, float32 [H,W].
        threshold: the cue value where object and background are equally likely.
        rounds: number of rounds of colour model and smoothing.
        slope: prior log-odds per unit of the cue above the threshold.
        colour_weight: weight of the colour model's log-odds against the prior's.
        strength: lambda of the solver; a larger value smooths more.
        spatial: side of a grid cell in pixels.
        lightness: side of a grid cell in units of L.
        chroma: side of a grid cell in units of a and b.

    Returns:
        Probability of the object, float32 [H,W].
    """
    height, width = cue.shape
    grid = build_grid(lab, spatial=spatial, lightness=lightness, chroma=chroma)
    prior = slope * (grid.splat(cue) - threshold)
    probability = _sigmoid(prior)
    for _ in range(rounds):
        target = _sigmoid(prior + colour_weight * colour_log_odds(grid, probability))
        probability = np.clip(solve(grid, target, np.abs(2 * target - 1) + 1e-3, strength=strength), 0, 1)
    return grid.slice(probability, height, width)


def colour_log_odds(grid: Grid, probability: Float64) -> Float64:
    """Return the log-likelihood ratio of each vertex's colour on the object and on the background, [n]."""
    cell = tuple(grid.colour.T)
    shape = tuple(int(side) for side in grid.colour.max(0) + 1)
    index = np.ravel_multi_index(cell, shape)
    size = int(np.prod(shape))
    everything = np.bincount(index, grid.mass, size).reshape(shape)
    on = np.bincount(index, grid.mass * probability, size).reshape(shape)
    everything = gaussian_filter(everything, 1.0, mode="constant", truncate=2.0).ravel()[index]
    on = gaussian_filter(on, 1.0, mode="constant", truncate=2.0).ravel()[index]
    pixels = float(grid.mass.sum())
    inside = float((grid.mass * probability).sum())
    likely_on = on / max(inside, 1e-6)
    likely_off = np.maximum(everything - on, 0) / max(pixels - inside, 1e-6)
    odds: Float64 = np.log((likely_on + 1e-6) / (likely_off + 1e-6))
    return odds


def clean(mask: BoolArray, *, of_largest: float = 0.2, of_image: float = 0.01) -> BoolArray:
    """Remove small components and fill holes of a mask, bool [H,W].

    A component is small below ``of_largest`` of the largest component's area or ``of_image`` of the image's area.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = (areas >= of_largest * areas.max()) & (areas >= of_image * mask.size)
    kept = np.take(np.concatenate([[False], keep]), np.asarray(labels, np.int32))
    count, labels, _, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    hole = np.ones(count, bool)
    hole[0] = False
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[edge] = False
    filled: BoolArray = kept | np.take(hole, np.asarray(labels, np.int32))
    return filled


def _sigmoid(values: Float64) -> Float64:
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))
