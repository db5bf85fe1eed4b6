"""Read pictures and masks from files, encoded bytes, PIL images, arrays, tensors and boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fss.core import storage
from fss.core.arrays import UInt8
from fss.images.binary_labels import object_plane
from fss.images.color_modes import to_rgb
from fss.images.decode import decode_image
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, decode_label_picture, label_picture_of_image

Encoded = str | Path | bytes
PictureLike = Encoded | Image.Image | NDArray[Any] | Tensor
"""A path or s3:// URI, encoded bytes, a PIL image, an array [H,W,3] or [H,W], or a tensor [3,H,W]. Arrays and tensors
contain 8-bit integers or floats in 0..1."""
Box = Sequence[float]
"""Left, top, right and bottom, in pixels of the picture."""
MaskLike = PictureLike | Box
"""A mask [H,W] in any form that a picture may have, or a box around the object."""


def read_picture(value: PictureLike) -> UInt8:
    """Return a picture as uint8 [H,W,3] RGB.

    Raises:
        ValueError: the file is missing or is not a picture, or the array has the wrong shape, type or range.
    """
    if isinstance(value, str | Path | bytes):
        return decode_image(_encoded(value))
    if isinstance(value, Image.Image):
        return np.ascontiguousarray(to_rgb(ImageOps.exif_transpose(value)))
    pixels = _array(value)
    if pixels.dtype.kind == "f" and pixels.size and pixels.min() >= 0 and pixels.max() <= 1:
        pixels = np.rint(pixels * 255).astype(np.uint8)
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if pixels.dtype != np.uint8 or not pixels.size or not fits:
        raise ValueError(
            f"a picture must be [H,W,3] RGB (a tensor [3,H,W]) of 8 bits or of floats in 0..1, got {value.dtype} "
            f"{list(value.shape)}"
        )
    return np.ascontiguousarray(to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)))


def read_mask(value: MaskLike, shape: Sequence[int]) -> UInt8:
    """Return the mask of a support as uint8 [H,W] in {0,1}.

    The mask is read as :func:`fss.images.labels.read_labels` reads a binary mask: in a mask of two values or colours,
    the one that is not 0 or black marks the object; in a mask with the values 0, 1 and 255, 1 marks the object and 255
    is ignored; a mask with many grey values is cut at its middle.

    Args:
        value: the mask, or a box whose inside is the object.
        shape: height and width of the picture, in pixels.

    Raises:
        ValueError: the mask has another size, contains several classes, or marks no pixel.
    """
    if _is_box(value):
        return _box(value, shape)  # type: ignore[arg-type]
    picture = _label_picture(value)
    if picture.shape != tuple(shape[:2]):
        turned = picture.shape == (shape[1], shape[0])
        hint = (
            "; if it was drawn on the stored pixels, turn it as the picture's EXIF orientation says" if turned else ""
        )
        raise ValueError(
            f"a support's mask must have its picture's size {list(shape[:2])}, got {list(picture.shape)}{hint}"
        )
    try:
        plane = object_plane(picture, any_value=True)
    except DecodeError as error:
        reason = str(error).partition("; give --source")[0]  # the settings of a source do not apply here
        raise ValueError(
            f"the mask shows no single object ({reason}); set one object to 1 and all else to 0"
        ) from error
    if not (plane == 1).any():
        raise ValueError("a support's mask marks no pixel; set the pixels of the object to 1 (or 255)")
    return np.asarray(plane == 1, np.uint8)


def _label_picture(value: Any) -> LabelPicture:
    if isinstance(value, str | Path | bytes):
        return decode_label_picture(_encoded(value))
    if isinstance(value, Image.Image):
        return label_picture_of_image(value)
    if not isinstance(value, np.ndarray | Tensor):
        raise ValueError(
            f"a mask must be a picture, an array [H,W] or a box of four numbers, got {type(value).__name__}"
        )
    values = _array(value)
    if values.ndim not in (2, 3) or not values.size or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise ValueError(f"a mask must be [H,W], or a picture [H,W,3]; got {list(values.shape)}")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
            raise ValueError(f"a mask of floats must lie in 0..1, got {values.min():g}..{values.max():g}")
        if values.max() > 1 and (values != np.rint(values)).any():
            raise ValueError(f"a mask of floats must lie in 0..1 or hold whole numbers, got up to {values.max():g}")
        values = values > 0.5 if values.max() <= 1 else values.astype(np.uint8)
    if values.dtype.kind not in "bui":
        raise ValueError(f"a mask must hold integers, booleans or floats, got {values.dtype}")
    if values.ndim == 3 and values.shape[2] > 1:
        return label_picture_of_image(Image.fromarray(values.astype(np.uint8)))
    full = 65535 if values.dtype.itemsize > 1 and values.max() > 255 else 255
    return LabelPicture(values=(values if values.ndim == 2 else values[..., 0]).astype(np.int64), full=full)


def _is_box(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(v, int | float) for v in value)


def _box(box: Box, shape: Sequence[int]) -> UInt8:
    height, width = shape[:2]
    if not np.isfinite(box).all():
        raise ValueError(f"the box {list(box)} has to consist of finite numbers: left, top, right, bottom")
    left, top, right, bottom = (round(value) for value in box)
    mask = np.zeros((height, width), np.uint8)
    mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
    if not mask.any():
        raise ValueError(
            f"the box {list(box)} contains no pixel of a picture of {width} x {height} pixels; a box is left, top, "
            "right, bottom"
        )
    return mask


def _array(value: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()  # NumPy has no bfloat16
        return np.asarray(value.movedim(0, -1) if value.ndim == 3 else value)
    return np.asarray(value)


def _encoded(value: Encoded) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return storage.read_bytes(value)
    except OSError as error:
        raise DecodeError("unreadable", f"{value}: {error.strerror or error}") from error
