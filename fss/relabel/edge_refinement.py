"""Soft masks that follow the edges of their picture: what a network says on a coarse grid, with sharp borders."""

import cv2
import numpy as np

from fss.core.arrays import Float32, UInt8
from fss.saliency.classical.refine import refine
from fss.saliency.classical.superpixels import to_lab
from fss.saliency.quality import weighted_iou

WORKING_PIXELS = 67_500  # size at which edges are followed; the settings of the refinement are made for it
LEAST_SIDE = 8  # below it there is nothing to follow


def working_picture(rgb: UInt8) -> UInt8:
    """Shrink a picture, uint8 [H,W,3], to at most :data:`WORKING_PIXELS` in its own proportions."""
    height, width = rgb.shape[:2]
    scale = min(1.0, (WORKING_PIXELS / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def follow_edges(soft: Float32, guide: UInt8) -> Float32:
    """Let a soft mask follow the edges of a picture.

    Args:
        soft: probability of the object, float32 [S,S].
        guide: the picture, uint8 [h,w,3].

    Returns:
        float32 [h,w]; without the edges where there is no object, or where following them would make it another one.
    """
    height, width = guide.shape[:2]
    cue = np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    coarse = cue > 0.5
    if min(height, width) < LEAST_SIDE or not coarse.any():
        return cue
    sharp = np.asarray(refine(to_lab(guide), cue, 0.5, rounds=1, colour_weight=0.3), np.float32)
    return sharp if weighted_iou(coarse, sharp > 0.5) >= 0.5 else cue
