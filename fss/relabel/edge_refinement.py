"""Refinement of soft masks along the edges of their image: a network predicts on a coarse grid, borders are sharp."""

import cv2
import numpy as np

from fss.core.arrays import Float32, UInt8
from fss.images.resize import shrink_to_area
from fss.saliency.classical.refine import refine
from fss.saliency.classical.superpixels import to_lab
from fss.saliency.quality import weighted_iou

WORKING_PIXELS = 67_500  # the parameters of the refinement are tuned for images of this size
LEAST_SIDE = 8  # pixels; a smaller image has no edges to follow


def shrink_to_working_size(rgb: UInt8) -> UInt8:
    """Shrink an image, uint8 [H,W,3], to about :data:`WORKING_PIXELS` pixels; its proportions stay."""
    return shrink_to_area(rgb, WORKING_PIXELS)


def follow_edges(soft: Float32, guide: UInt8) -> Float32:
    """Refine a soft mask along the edges of an image.

    Args:
        soft: probability of the object, float32 [S,S].
        guide: the image, uint8 [h,w,3].

    Returns:
        float32 [h,w]. The mask is only resized where it shows no object, or where the refined object would overlap
        the original one by an IoU below 0.5.
    """
    height, width = guide.shape[:2]
    cue = np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    coarse = cue > 0.5
    if min(height, width) < LEAST_SIDE or not coarse.any():
        return cue
    sharp = np.asarray(refine(to_lab(guide), cue, 0.5, rounds=1, colour_weight=0.3), np.float32)
    return sharp if weighted_iou(coarse, sharp > 0.5) >= 0.5 else cue
