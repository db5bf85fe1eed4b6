"""Decoding of photographs straight to the canvases of a training, uint8 [3, size, size]."""

import cv2
import numpy as np

from fss.core.arrays import UInt8
from fss.images.color_modes import apply_orientation, to_rgb
from fss.images.decode import load_image
from fss.images.decode_errors import explain_error
from fss.images.limits import DecodeLimits
from fss.images.resize import image_canvas, resize_image


def decode_canvas(data: bytes, size: int, limits: DecodeLimits | None = None) -> UInt8:
    """Decode an image to a canvas in planes, uint8 [3, size, size].

    The pixels are those of ``image_canvas(decode_image(data, limits), size)``. An upright RGB photograph is resized
    where it was decoded, without a copy of all its pixels.

    Raises:
        DecodeError: the image cannot be decoded; no other exception is raised.
    """
    image, orientation = load_image(data, limits or DecodeLimits())
    try:
        if image.mode == "RGB" and orientation == 1 and "transparency" not in image.info:
            return planes(np.asarray(resize_image(image, size)))
        return planes(image_canvas(np.ascontiguousarray(apply_orientation(to_rgb(image), orientation)), size))
    except Exception as error:
        raise explain_error(error) from error


def planes(canvas: UInt8) -> UInt8:
    """Return the channels of a canvas, uint8 [size, size, C], as planes, uint8 [C, size, size]."""
    separate = np.empty((canvas.shape[2], *canvas.shape[:2]), np.uint8)
    cv2.split(canvas, list(separate))  # a sixth of the time of NumPy's transposed copy
    return separate
