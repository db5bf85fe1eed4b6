"""Read pictures and masks from files, encoded bytes, PIL images, arrays, tensors, boxes and other prompts."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fss.core import storage
from fss.core.arrays import IGNORE, UInt8
from fss.images.binary_labels import VOID_COLOR, object_plane
from fss.images.color_modes import to_rgb
from fss.images.decode import decode_image
from fss.images.decode_errors import DecodeError, explain_error
from fss.images.label_samples import LabelPicture, decode_label_picture, label_picture_of_image, pack_color
from fss.inference.prompts import Box, Prompt, PromptedMask, mask_notes, prompted_mask

Encoded = str | Path | bytes
PictureLike = Encoded | Image.Image | NDArray[Any] | Tensor
"""A path or s3:// URI, encoded bytes, a PIL image, an array [H,W,3] or [H,W], or a tensor [3,H,W]. Arrays and tensors
contain 8-bit integers or floats in 0..1."""
MOST_OBJECTS = 20
"""Largest number of values or colours of a mask that shows several objects."""
MaskLike = PictureLike | Box | Sequence[Box] | Prompt
"""A mask [H,W] in any form that a picture may have, a box or several boxes around objects, or a :class:`Prompt`."""


def read_picture(value: PictureLike) -> UInt8:
    """Return a picture as uint8 [H,W,3] RGB.

    Raises:
        ValueError: the file is missing or is not a picture, or the array has the wrong shape, type or range.
        OSError: the object store does not answer.
    """
    if isinstance(value, str | Path | bytes):
        return decode_image(_encoded(value))
    if isinstance(value, Image.Image):
        return np.ascontiguousarray(to_rgb(ImageOps.exif_transpose(_loaded(value))))
    if not isinstance(value, np.ndarray | Tensor):
        raise ValueError(
            f"a picture must be a path or s3:// URI, encoded bytes, a PIL image, an array or a tensor, got "
            f"{type(value).__name__}"
        )
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


def read_support_mask(value: MaskLike, rgb: UInt8) -> PromptedMask:
    """Return the mask of a support: as it is given, or made from boxes, points and strokes.

    Args:
        value: the mask or the prompt.
        rgb: the support's picture, uint8 [H,W,3].

    Raises:
        ValueError: the mask is invalid (see :func:`read_mask`), or a box or point is not in the picture.
    """
    if is_box(value):
        value = Prompt(boxes=(cast(Box, value),))
    elif are_boxes(value):
        value = Prompt(boxes=cast(Sequence[Box], value))
    if isinstance(value, Prompt):
        strokes = (None if each is None else read_mask(each, rgb.shape) for each in (value.strokes, value.not_strokes))
        return prompted_mask(rgb, value, *strokes)
    mask = read_mask(cast(PictureLike, value), rgb.shape)
    return PromptedMask(mask=mask, notes=mask_notes(mask))


def read_mask(value: PictureLike, shape: Sequence[int]) -> UInt8:
    """Return a mask as uint8 [H,W] in {0,1}; several objects are taken together.

    The mask is read as :func:`fss.images.labels.read_labels` reads a binary mask: in a mask of two values or colours,
    the one that is not 0 or black marks the object; in a mask with the values 0, 1 and 255, 1 marks the object and 255
    is ignored; a mask with many grey values is cut at its middle. A lossless mask of a few values or colours shows
    several objects; 255 and VOC's border colour are ignored in it.

    Args:
        value: the mask.
        shape: height and width of the picture, in pixels.

    Raises:
        ValueError: the mask has another size, does not tell objects from background, or marks no pixel.
    """
    picture = _label_picture(value)
    if picture.shape != tuple(shape[:2]):
        turned = picture.shape == (shape[1], shape[0])
        hint = ", and turn it as the EXIF orientation says if it was drawn on the stored pixels" if turned else ""
        (height, width), (mask_height, mask_width) = shape[:2], picture.shape
        raise ValueError(
            f"a support's mask must have its picture's size of {width} x {height} pixels (width x height), got "
            f"{mask_width} x {mask_height}; give the mask of this very picture{hint}"
        )
    try:
        plane = object_plane(picture, any_value=True)
    except DecodeError as error:
        several = _several_objects(picture)
        if several is None:
            reason = str(error).partition("; give --source")[0]  # the settings of a source do not apply here
            raise ValueError(
                f"the mask does not tell objects from background ({reason}); set the objects to 1 and all else to 0"
            ) from error
        plane = several
    if not (plane == 1).any():
        raise ValueError("a support's mask marks no pixel; set the pixels of the object to 1 (or 255)")
    return np.asarray(plane == 1, np.uint8)


def _label_picture(value: Any) -> LabelPicture:
    if isinstance(value, str | Path | bytes):
        return decode_label_picture(_encoded(value))
    if isinstance(value, Image.Image):
        return label_picture_of_image(_loaded(value))
    if not isinstance(value, np.ndarray | Tensor):
        raise ValueError(
            f"a mask must be a picture, an array [H,W], a box of four numbers, a list of boxes or a Prompt, got "
            f"{type(value).__name__}"
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
        if values.min() < 0 or values.max() > 255:
            raise ValueError(f"the colours of a mask must lie in 0..255, got {values.min()}..{values.max()}")
        return label_picture_of_image(Image.fromarray(values.astype(np.uint8)))
    full = 65535 if values.dtype.itemsize > 1 and values.max() > 255 else 255
    return LabelPicture(values=(values if values.ndim == 2 else values[..., 0]).astype(np.int64), full=full)


def are_boxes(value: Any) -> bool:
    """Return whether a value is a list of boxes."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_box, value))


def is_box(value: Any) -> bool:
    """Return whether a value is a row of four numbers, and thereby a box."""
    is_row = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)
    return is_row and len(value) == 4 and all(isinstance(each, Real) for each in value)


def _several_objects(picture: LabelPicture) -> UInt8 | None:
    """Return the union of the objects of a mask with a few values or colours, uint8 [H,W]; None for another picture."""
    samples: NDArray[Any] = picture.packed_colors if picture.values is None else picture.values
    if picture.lossy or picture.alpha is not None or samples.min() < 0:  # -1 may mean ignored pixels, or none
        return None
    void = pack_color(VOID_COLOR) if picture.values is None else IGNORE
    marks = np.setdiff1d(samples, [0, void])
    if not 2 <= len(marks) <= MOST_OBJECTS or not (samples == 0).any():
        return None
    return np.isin(samples, marks).astype(np.uint8)


def _array(value: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()  # NumPy has no bfloat16
        return np.asarray(value.movedim(0, -1) if value.ndim == 3 else value)
    return np.asarray(value)


def _loaded(image: Image.Image) -> Image.Image:
    """Return a PIL image with its pixels, which PIL reads from the file when they are first used."""
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        raise explain_error(error) from error
    return image


def _encoded(value: Encoded) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return storage.read_bytes(value)
    except OSError as error:
        if storage.may_be_intact(value, error):
            raise
        raise DecodeError("unreadable", f"{value}: {error.strerror or error}") from error
