"""What the learned estimators share: pictures in, and a result out of a network's maps of one picture."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from fss.core.arrays import Float32, Rgb
from fss.saliency import quality
from fss.saliency.classical.estimator import SaliencyResult, finish
from fss.saliency.classical.refine import clean, refine
from fss.saliency.classical.superpixels import to_lab

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def resize_images(images: Sequence[Rgb], height: int, width: int) -> Tensor:
    """Resize pictures, uint8 Rgb [H,W,3] each, to one size: uint8 [B,height,width,3].

    Raises:
        ValueError: something else than uint8 Rgb.
    """
    for rgb in images:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise ValueError(f"expected uint8 [H,W,3], got {rgb.dtype} {list(rgb.shape)}; decode the picture first")
    return torch.from_numpy(
        np.stack([cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb in images])
    )


def normalise_images(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """uint8 images ``[B,H,W,3]`` to normalised float32 ``[B,3,H,W]``."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    low, spread = scaled.new_tensor(mean)[:, None, None], scaled.new_tensor(std)[:, None, None]
    return ((scaled - low) / spread).contiguous(memory_format=torch.channels_last)


def result_of_views(rgb: Rgb, views: Float32, *, working_pixels: int, refined: bool) -> SaliencyResult:
    """Make a mask, soft map and scores of two maps of one picture (as it is, and of its mirror image turned back).

    Args:
        rgb: uint8 [H,W,3].
        views: [2,h,w] probability of the object.
        working_pixels: size of the edge-aware refinement.
        refined: follow the picture's edges with one round of colour model and bilateral solver.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, (working_pixels / (height * width)) ** 0.5)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cue = np.asarray(cv2.resize(views.mean(0), size, interpolation=cv2.INTER_LINEAR), np.float32)
    lab = to_lab(np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8))
    threshold = quality.otsu(cue)  # the moving average of noisy targets leaves whole objects below one half
    coarse = clean(cue > threshold)
    soft, mask, overlap = cue, coarse, 1.0
    if refined and min(size) >= 8 and coarse.any():
        soft = refine(lab, cue, threshold, rounds=1, colour_weight=0.3)
        mask = clean(soft > 0.5)
        overlap = quality.weighted_iou(coarse, mask)
    kept = overlap >= 0.5
    mask = mask if kept else coarse
    scores: quality.Scores = {
        "agreement": quality.weighted_iou(views[0] > threshold, views[1] > threshold),
        "contrast": quality.contrast(lab, mask),
        "stability": quality.weighted_iou(cue > 0.8 * threshold, cue > 1.25 * threshold),
        "separation": quality.separation(cue, mask),
        "refinement": overlap,
        "gate_refined": kept,
    }
    return finish(mask, soft, scores, (height, width), (0, height, 0, width))
