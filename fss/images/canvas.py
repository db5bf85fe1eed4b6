"""Decoding of photographs straight to the canvases of a training, uint8 [3, size, size]."""

import cv2
import numpy as np
from PIL import Image

from fss.core.arrays import UInt8
from fss.images.color_modes import apply_orientation, to_rgb
from fss.images.decode import load_image, open_image
from fss.images.decode_errors import explain_error
from fss.images.limits import DecodeLimits, Decoding
from fss.images.resize import image_canvas, resize_image

# libjpeg decodes at a half, a quarter or an eighth by smaller inverse transforms, which average blocks of pixels.
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}
_END_OF_JPEG = b"\xff\xd9"


def decode_canvas(data: bytes, size: int, limits: DecodeLimits | None = None, *, decoding: Decoding = "exact") -> UInt8:
    """Decode an image to a canvas in planes, uint8 [3, size, size].

    The pixels are those of ``image_canvas(decode_image(data, limits), size)``, or close to them with ``fast``.

    Raises:
        DecodeError: the image cannot be decoded; no other exception is raised.
    """
    limits = limits or DecodeLimits()
    canvas = _decode_fast(data, size, limits) if decoding == "fast" else None
    return _decode_exactly(data, size, limits) if canvas is None else canvas


def planes(canvas: UInt8) -> UInt8:
    """Return the channels of a canvas, uint8 [size, size, C], as planes, uint8 [C, size, size]."""
    separate = np.empty((canvas.shape[2], *canvas.shape[:2]), np.uint8)
    cv2.split(canvas, list(separate))  # a sixth of the time of NumPy's transposed copy
    return separate


def _decode_exactly(data: bytes, size: int, limits: DecodeLimits) -> UInt8:
    image, orientation = load_image(data, limits)
    try:
        if _is_upright_rgb(image, orientation):  # resized where it was decoded, without a copy of all its pixels
            return planes(np.asarray(resize_image(image, size)))
        return planes(image_canvas(np.ascontiguousarray(apply_orientation(to_rgb(image), orientation)), size))
    except Exception as error:
        raise explain_error(error) from error


def _decode_fast(data: bytes, size: int, limits: DecodeLimits) -> UInt8 | None:
    """Decode an upright RGB JPEG to a canvas in planes; None for other images and incomplete files.

    It is decoded at the smallest scale at which its sides are twice those of the canvas, and resized by torch's
    vectorised kernel for uint8, which rounds its weights to 16 bits.
    """
    image, orientation = open_image(data, limits)
    if image.format != "JPEG" or not _is_upright_rgb(image, orientation) or not data.endswith(_END_OF_JPEG):
        return None
    scale = next((scale for scale in _REDUCED if min(image.size) >= scale * 2 * size), 1)
    flags = _REDUCED[scale] | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if rgb is None else planes(_resize_fast(np.asarray(rgb, np.uint8), size))


def _resize_fast(rgb: UInt8, size: int) -> UInt8:
    import torch

    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _is_upright_rgb(image: Image.Image, orientation: int) -> bool:
    return image.mode == "RGB" and orientation == 1 and "transparency" not in image.info
