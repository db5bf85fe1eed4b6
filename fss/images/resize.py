"""Resizing of images and masks to the square uint8 canvases that travel to the training device."""

import cv2
import numpy as np
from PIL import Image

from fss.core.arrays import UInt8


def image_canvas(rgb: UInt8, size: int) -> UInt8:
    """Resize an image, uint8 [H, W, 3], to uint8 [size, size, 3], bilinear with antialiasing; the ratio is not kept."""
    if rgb.shape[:2] == (size, size):
        return rgb
    return np.asarray(resize_image(Image.fromarray(rgb), size), np.uint8)


def resize_image(image: Image.Image, size: int) -> Image.Image:
    """Resize a Pillow image to ``size`` x ``size`` pixels, bilinear with antialiasing; the ratio is not kept."""
    return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)


def mask_canvas(mask: UInt8, size: int) -> UInt8:
    """Resize a mask, uint8 [H, W], to uint8 [size, size] by nearest neighbour with aligned pixel centres."""
    if mask.shape == (size, size):
        return mask
    return np.asarray(cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def shrink_to_area(rgb: UInt8, pixels: int) -> UInt8:
    """Shrink an image, uint8 [H, W, 3], to about ``pixels`` pixels in its own proportions; never enlarge it."""
    height, width = rgb.shape[:2]
    scale = (pixels / (height * width)) ** 0.5
    if scale >= 1:
        return np.ascontiguousarray(rgb)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
