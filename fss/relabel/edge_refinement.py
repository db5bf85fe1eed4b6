"""Refinement of soft masks along the edges of their image: a network predicts on a coarse grid, borders are sharp."""

import cv2
import numpy as np

from fss.core.arrays import Float32, UInt8
from fss.images.resize import shrink_to_area
from fss.saliency.classical.refine import refine
from fss.saliency.classical.superpixels import to_lab
from fss.saliency.quality import weighted_iou

WORKING_PIXELS = 67_500  # the parameters of the refinement are tuned for images of this size
SPATIAL = 16.0  # side of a cell of the bilateral grid in such an image, in pixels
OUTLINE_PIXELS = 500_000  # a photograph of more pixels is shrunk to them, which bounds the time
LEAST_SIDE = 8  # pixels; a smaller image has no edges to follow
DUST = 36  # pixels of an image of the working size: a third of the cell of a network with 384 pixels and stride 16


def shrink_to_working_size(rgb: UInt8) -> UInt8:
    """Shrink an image, uint8 [H,W,3], to about :data:`WORKING_PIXELS` pixels; its proportions stay."""
    return shrink_to_area(rgb, WORKING_PIXELS)


def follow_edges(soft: Float32, guide: UInt8, *, threshold: float = 0.5, spatial: float = SPATIAL) -> Float32:
    """Refine a soft mask along the edges of an image.

    Args:
        soft: probability of the object, float32 of any size.
        guide: the image, uint8 [h,w,3].
        threshold: probability above which a pixel is object, in (0, 1); the outline at this value follows the edges.
        spatial: side of a cell of the bilateral grid, in pixels of the image.

    Returns:
        float32 [h,w], above ``threshold`` on the refined object, which has neither islands nor holes that are smaller
        than a cell of the network. The mask is only resized where it shows no object, or where the refined object would
        overlap the original one by an IoU below 0.5.
    """
    height, width = guide.shape[:2]
    cue = np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    coarse = cue > threshold
    if min(height, width) < LEAST_SIDE or not coarse.any():
        return cue
    lab = to_lab(guide)
    sharp = np.asarray(refine(lab, cue, threshold, rounds=1, colour_weight=0.3, spatial=spatial), np.float32)
    if weighted_iou(coarse, sharp > 0.5) < 0.5:
        return cue
    if threshold != 0.5:  # the refinement puts the outline at 0.5
        sharp = np.where(sharp > 0.5, 1 - 2 * (1 - threshold) * (1 - sharp), 2 * threshold * sharp).astype(np.float32)
    return _without_dust(sharp, threshold)


def refine_outlines(probability: Float32, rgb: UInt8, *, threshold: float = 0.5) -> Float32:
    """Refine the outlines of a predicted map at the size of its photograph.

    Args:
        probability: probability of the object, float32 [H,W].
        rgb: the photograph, uint8 [H,W,3].
        threshold: probability above which a pixel is object, in (0, 1).

    Returns:
        float32 [H,W], above ``threshold`` on the refined object (see :func:`follow_edges`).
    """
    guide = shrink_to_area(rgb, OUTLINE_PIXELS)
    scale = max(1.0, (guide.shape[0] * guide.shape[1] / WORKING_PIXELS) ** 0.5)
    sharp = follow_edges(probability, guide, threshold=threshold, spatial=SPATIAL * scale)
    height, width = rgb.shape[:2]
    return np.asarray(cv2.resize(sharp, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _without_dust(soft: Float32, threshold: float) -> Float32:
    """Remove islands and fill holes that the colours of single pixels make, by mirroring them at the threshold."""
    least = DUST * soft.size / WORKING_PIXELS
    clean = soft.copy()
    for island in (True, False):
        parts = ((clean > threshold) == island).astype(np.uint8)
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(parts, connectivity=8 if island else 4)
        small = statistics[:, cv2.CC_STAT_AREA] < least
        small[0] = False  # all other pixels
        if small[1:].all():  # the object itself is as small, or the rest of the picture
            continue
        dust = small[labels]
        mirrored = np.clip(2 * threshold - clean[dust], 0, 1)
        above = np.nextafter(np.float32(threshold), np.float32(1))
        clean[dust] = np.minimum(mirrored, threshold) if island else np.maximum(mirrored, above)
    return clean
