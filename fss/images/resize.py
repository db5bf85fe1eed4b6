"""Pictures as they travel to the training device: square uint8 canvases, and masks of the same size."""

import cv2
import numpy as np
from PIL import Image

from fss.core.arrays import UInt8


def image_canvas(rgb: UInt8, size: int) -> UInt8:
    """Squash a picture, uint8 [H, W, 3], to uint8 [size, size, 3], bilinearly and smoothed when it shrinks."""
    if rgb.shape[:2] == (size, size):
        return rgb
    resized = Image.fromarray(rgb).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized, np.uint8)


def mask_canvas(mask: UInt8, size: int) -> UInt8:
    """Squash a mask, uint8 [H, W], to uint8 [size, size] by nearest neighbours, pixel centres aligned."""
    if mask.shape == (size, size):
        return mask
    return np.asarray(cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
