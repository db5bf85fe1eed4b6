"""Quality scores and gates of a mask, which need no labels.

Raw scores and gates are stored with each mask. An acceptance selects masks for training from them later, in seconds.
"""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
import skimage as ski

from fss.collection.schema import HARD_GATES
from fss.core.arrays import BoolArray, Float32

Scores = dict[str, float | bool]


def otsu(values: Float32, weights: npt.NDArray[np.float64] | None = None) -> float:
    """Otsu's threshold of values in 0..1, each counting ``weights`` times; values above it are object."""
    bins, edges = np.histogram(values, 256, (0.0, 1.0), weights=weights)
    if bins.sum() <= 0:
        return 0.5
    if np.count_nonzero(bins) == 1:
        return float(edges[1])
    # With upper edges for centres the bin of the threshold is background.
    return float(ski.filters.threshold_otsu(hist=(bins, edges[1:])))  # type: ignore[no-untyped-call]


def agreement(cues: Sequence[Float32], area: npt.NDArray[np.float64]) -> float:
    """Return the mean pairwise IoU of cues, [n] each, after Otsu's threshold; elements count ``area`` pixels, [n]."""
    masks = [cue > otsu(cue, area) for cue in cues]
    pairs = [weighted_iou(a, b, area) for a, b in combinations(masks, 2)]
    return float(np.mean(pairs)) if pairs else 0.0


def weighted_iou(a: BoolArray, b: BoolArray, area: npt.NDArray[np.float64] | float = 1.0) -> float:
    """Return the IoU of two masks whose elements count ``area``; 0 where both are empty."""
    union = float(((a | b) * area).sum())
    return float(((a & b) * area).sum()) / union if union > 0 else 0.0


def stability(cue: Float32, area: npt.NDArray[np.float64]) -> float:
    """Return the IoU of the masks at 0.8 and 1.25 times the threshold 2 * mean, which is high for steep maps."""
    threshold = 2 * float((cue * area).sum() / area.sum())
    return weighted_iou(cue > 0.8 * threshold, cue > 1.25 * threshold, area)


def contrast(lab: Float32, mask: BoolArray) -> float:
    """Return the chi-squared distance, 0..1, of the CIELAB histograms inside a mask and in the ring around it.

    Args:
        lab: CIELAB image, float32 [H,W,3].
        mask: bool [H,W].
    """
    reach = max(3, round(0.04 * max(mask.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
    ring = (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
    if not mask.any() or not ring.any():
        return 0.0
    cells = np.clip((lab + np.array([0, 128, 128], np.float32)) / np.array([12.5, 16, 16], np.float32), 0, 15)
    index = cells.astype(np.int32) @ np.array([256, 16, 1], np.int32)
    inside = np.bincount(index[mask], minlength=4096) / mask.sum()
    around = np.bincount(index[ring], minlength=4096) / ring.sum()
    total = inside + around
    used = total > 0
    return float(((inside - around)[used] ** 2 / total[used]).sum() / 2)


def separation(cue: Float32, mask: BoolArray) -> float:
    """Return the mean of the cue inside the mask minus the mean outside; 0 for an empty or full mask."""
    if not mask.any() or mask.all():
        return 0.0
    return float(cue[mask].mean() - cue[~mask].mean())


def border_touch(mask: BoolArray) -> float:
    """Return the share of the image's perimeter that the mask covers."""
    edges = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(edges.mean())


def gates(mask: BoolArray, *, refined: bool) -> dict[str, bool]:
    """Return the gates of a mask, bool [H,W]; an empty mask passes none, a full one fails all hard gates but one."""
    area = float(mask.mean())
    if area == 0:
        return {**dict.fromkeys(HARD_GATES, False), "gate_refined": False}
    corners = int(mask[0, 0]) + int(mask[0, -1]) + int(mask[-1, 0]) + int(mask[-1, -1])
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    spans = bool(mask.any(axis=0).all() and mask.any(axis=1).all())
    return {
        "gate_area": 0.02 <= area <= 0.7,
        "gate_border": border_touch(mask) <= 0.35,
        "gate_corners": corners < 3,
        "gate_span": not spans,
        "gate_component": bool((stats[1:, cv2.CC_STAT_AREA] >= 0.01 * mask.size).any()),
        "gate_refined": refined,
    }


def no_scores() -> Scores:
    """Return the scores of an image without a salient object: all 0, no gate passed."""
    names = ("agreement", "contrast", "stability", "separation", "refinement", "area", "border")
    return {**dict.fromkeys(names, 0.0), **dict.fromkeys(HARD_GATES, False), "gate_refined": False}
