"""Agreement of a mask with other masks of the same image, as a score of its reliability.

Only foreground IoU is used: with two classes the background's IoU is high for almost any mask and hides differences.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from fss.core.arrays import BoolArray


def foreground_iou(a: BoolArray, b: BoolArray, valid: BoolArray | None = None) -> float | None:
    """Return the intersection over union of two masks.

    Args:
        a: the first mask, bool [H,W].
        b: the second mask, bool [H,W].
        valid: pixels to count, bool [H,W]; None counts all.

    Returns:
        0 to 1; 0 where one mask is empty. None where both are empty: there is no object to agree on, so the image is
        left out instead of counting as a perfect or as a failed one.
    """
    if valid is not None:
        a, b = a & valid, b & valid
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else None


def agreement_with(reference: BoolArray, others: Sequence[BoolArray]) -> float | None:
    """Return the mean foreground IoU of ``others`` with ``reference``, all bool [H,W].

    With the masks of earlier checkpoints this is the stability of ST++ (Yang et al., CVPR 2022, section 3.3), with
    foreground IoU in place of the mean over classes. With the masks of other views, mapped back to the image, it is
    the agreement of the views.

    Returns:
        0 to 1; None where ``others`` is empty or no mask shows an object.
    """
    return _mean((reference, other) for other in others)


def pairwise_agreement(masks: Sequence[BoolArray]) -> float | None:
    """Return the mean foreground IoU of all pairs of masks, bool [H,W] each; None as in :func:`agreement_with`."""
    return _mean(combinations(masks, 2))


def _mean(pairs: Iterable[tuple[BoolArray, BoolArray]]) -> float | None:
    """Average the IoU of pairs. Two empty masks agree on no object, so they count 0 if another pair shows one."""
    ious = [foreground_iou(a, b) for a, b in pairs]
    return float(np.mean([iou or 0.0 for iou in ious])) if any(iou is not None for iou in ious) else None
