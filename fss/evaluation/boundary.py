"""Boundary F-measure: how well the outlines of a mask match those of the ground truth.

It is the F-measure of DAVIS (Perazzi et al., CVPR 2016): precision is the share of the mask's boundary that lies near
the boundary of the truth, recall the reverse, and F their harmonic mean. Near means within a share of the image's
diagonal: 0.75 %, the tolerance of BSDS (Martin et al., PAMI 2004); DAVIS has 0.8 %.
"""

import cv2
import numpy as np

from fss.core.arrays import IGNORE, BoolArray, Mask

TOLERANCE = 0.0075


def boundary_f(mask: Mask, truth: Mask, *, tolerance: float = TOLERANCE) -> float:
    """Return the boundary F-measure of a mask, in [0, 1].

    Args:
        mask: [H,W]; 1 is the object, any other value is background.
        truth: [H,W] in {0, 1, 255}; boundaries next to pixels at 255 are not counted.
        tolerance: largest distance of matching boundaries, as a share of the diagonal, and at least one pixel.

    Returns:
        1 if neither has a boundary, 0 if only one has.

    Raises:
        ValueError: mask and truth differ in size.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"mask {mask.shape} and truth {truth.shape} differ in size; resize the mask to the truth")
    counted = cv2.dilate((truth == IGNORE).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    predicted, true = _boundary(mask == 1) & counted, _boundary(truth == 1) & counted
    if not predicted.any() or not true.any():
        return float(predicted.any() == true.any())
    reach = max(1, round(tolerance * float(np.hypot(*mask.shape))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near_true, near_predicted = (cv2.dilate(line.astype(np.uint8), disc) > 0 for line in (true, predicted))
    precision, recall = float(near_true[predicted].mean()), float(near_predicted[true].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: BoolArray) -> BoolArray:
    """Return the pixels of a mask that touch its outside; the border of the image is no boundary."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(mask & (inner == 0))
