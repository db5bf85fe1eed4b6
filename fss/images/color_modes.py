"""Conversion of pixels of any mode to 8-bit RGB, and of any EXIF orientation to upright."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fss.core.arrays import Rgb

_ORIENTATION = 0x0112


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 if it is absent or the EXIF block is damaged (the pixels may be intact)."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def apply_orientation(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror pixels, [H, W] or [H, W, C], upright according to an EXIF orientation of 1 to 8.

    Exif 2.32, section 4.6.4.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def to_rgb(image: Image.Image) -> Rgb:
    """Return the pixels of a loaded image of any mode as RGB, uint8 [H, W, 3]; transparency is blended over white."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return np.asarray(cv2.cvtColor(_grey_to_8_bit(np.asarray(image), image), cv2.COLOR_GRAY2RGB), np.uint8)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, rgba))[..., :3]
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _grey_to_8_bit(values: NDArray[Any], image: Image.Image) -> NDArray[np.uint8]:
    """Scale grey values [H, W] of more than 8 bits to 0..255."""
    if values.dtype == np.uint16 or values.dtype == np.dtype(">u2"):
        bits = 16
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            bits = int(image.tag_v2.get(258, (16,))[0])
        full = (1 << bits) - 1
        return np.asarray(np.rint(values.astype(np.float32) * (255 / full)).clip(0, 255), np.uint8)
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif values.dtype.kind != "f" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.asarray(np.rint((wide - low) * (255 / (high - low))), np.uint8)
