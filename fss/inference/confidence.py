"""The confidence of a prediction: the IoU that its own probabilities lead to expect."""

import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import UInt8


def expected_iou(probability: NDArray[np.float32], mask: UInt8) -> float:
    """Return the expected intersection of a mask with the true object over their expected union.

    Each pixel belongs to the object independently with its probability. The ratio of the expectations approximates the
    expectation of the ratio (Nowozin, "Optimal Decisions from Probabilistic Models: the Intersection-over-Union Case",
    CVPR 2014, section 3.2).

    Args:
        probability: float32 [H,W] in 0..1, the probability of the object.
        mask: uint8 [H,W] in {0,1}.

    Returns:
        0 to 1; 0 where the mask is empty.
    """
    marked = mask == 1
    intersection = float(probability[marked].sum(dtype=np.float64))
    union = float(np.count_nonzero(marked)) + float(probability[~marked].sum(dtype=np.float64))
    return intersection / union if union else 0.0
