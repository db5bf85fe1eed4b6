"""How far a mask can be trusted, told by masks of the same picture that were made in other ways.

Foreground IoU alone: with two classes the background's IoU is high for almost any mask and would hide the differences.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from fss.core.arrays import BoolArray


def foreground_iou(a: BoolArray, b: BoolArray, valid: BoolArray | None = None) -> float | None:
    """Intersection over union of two masks [H,W].

    Args:
        a: one mask.
        b: the other.
        valid: pixels to look at; None: all.

    Returns:
        0 to 1; 0 where one of them is empty; None where both are: there is no object to agree on, and such a picture
        is left out rather than counted as a perfect or as a failed one.
    """
    if valid is not None:
        a, b = a & valid, b & valid
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else None


def agreement_with(reference: BoolArray, others: Sequence[BoolArray]) -> float | None:
    """Mean foreground IoU of some masks with a reference.

    With the masks of earlier checkpoints and of the last this is the stability of ST++ (Yang et al., CVPR 2022, section
    3.3, with foreground IoU instead of the mean over classes); with the masks of other views, turned back, the views'
    agreement. None where there are no masks, or all are empty.
    """
    return _mean((reference, other) for other in others)


def pairwise_agreement(masks: Sequence[BoolArray]) -> float | None:
    """Mean foreground IoU of all pairs, such as of the masks that different support sets give; None as above."""
    return _mean(combinations(masks, 2))


def _mean(pairs: Iterable[tuple[BoolArray, BoolArray]]) -> float | None:
    """Two empty masks beside others that show an object speak for no object: they count 0."""
    ious = [foreground_iou(a, b) for a, b in pairs]
    return float(np.mean([iou or 0.0 for iou in ious])) if any(iou is not None for iou in ious) else None
