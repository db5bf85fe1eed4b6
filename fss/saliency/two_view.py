"""Input and output of the learned estimators, which predict an image and its mirror image."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from fss.core.arrays import Float32, Rgb
from fss.images.resize import shrink_to_area
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD
from fss.saliency import quality
from fss.saliency.classical.estimator import SaliencyResult, check_rgb, finish
from fss.saliency.classical.refine import clean, refine
from fss.saliency.classical.superpixels import to_lab


def resize_images(images: Sequence[Rgb], height: int, width: int) -> Tensor:
    """Resize RGB images, uint8 [H,W,3] each, to one size: uint8 [B,height,width,3].

    Raises:
        ValueError: an image is no uint8 RGB image.
    """
    for rgb in images:
        check_rgb(rgb)
    return torch.from_numpy(
        np.stack([cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb in images])
    )


def normalize_images(
    images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Normalise images, uint8 [B,H,W,3], to float32 [B,3,H,W] in channels-last memory format."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    low, spread = scaled.new_tensor(mean)[:, None, None], scaled.new_tensor(std)[:, None, None]
    return ((scaled - low) / spread).contiguous(memory_format=torch.channels_last)


def result_of_views(rgb: Rgb, views: Float32, *, working_pixels: int, refined: bool) -> SaliencyResult:
    """Make a mask, soft map and scores from the predictions for an image and for its mirror image.

    Args:
        rgb: uint8 [H,W,3].
        views: probability of the object, [2,h,w]; the prediction for the mirror image is mirrored back.
        working_pixels: size in pixels at which the mask is refined.
        refined: whether the mask follows the edges of the image, by one round of colour model and bilateral solver.
    """
    height, width = rgb.shape[:2]
    small = shrink_to_area(rgb, working_pixels)
    size = (small.shape[1], small.shape[0])
    cue = np.asarray(cv2.resize(views.mean(0), size, interpolation=cv2.INTER_LINEAR), np.float32)
    lab = to_lab(small)
    threshold = quality.otsu(cue)  # a moving average of noisy targets can be below one half on the whole object
    coarse = clean(cue > threshold)
    soft, mask, overlap = cue, coarse, 1.0
    if refined and min(size) >= 8 and coarse.any():
        soft = refine(lab, cue, threshold, rounds=1, colour_weight=0.3)
        mask = clean(soft > 0.5)
        overlap = quality.weighted_iou(coarse, mask)
    accepted = overlap >= 0.5
    mask = mask if accepted else coarse
    scores: quality.Scores = {
        "agreement": quality.weighted_iou(views[0] > threshold, views[1] > threshold),
        "contrast": quality.contrast(lab, mask),
        "stability": quality.weighted_iou(cue > 0.8 * threshold, cue > 1.25 * threshold),
        "separation": quality.separation(cue, mask),
        "refinement": overlap,
        "gate_refined": accepted,
    }
    return finish(mask, soft, scores, (height, width), (0, height, 0, width))
