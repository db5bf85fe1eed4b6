"""Encoding and decoding of masks in mask parts.

An index mask is uint8 [H, W]: 0 is background, v in 1..254 stands for ``classes[v - 1]`` of the same row, 255 is
ignored. Data sets of thousands of classes fit, since one image never shows more than 254 of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Mask
from fss.images.headers import intact_png_size

MAX_CLASSES = 254
MAX_CLASS_ID = 65535  # in a class map
_OUTSIDE = MAX_CLASS_ID + 1  # stands for the ignored values that are no class ids
MAX_PIXELS = 1 << 28  # per mask; a PNG with more pixels is not the mask of a photograph


def encode_mask(mask: Mask) -> bytes:
    """Encode a mask, uint8 [H, W], as an 8-bit grey PNG (lossless)."""
    # Run-length matching suits flat areas: half the time and less space than the default strategy, measured on masks.
    return _encode_grey(mask, cv2.IMWRITE_PNG_STRATEGY_RLE)


def decode_mask(data: bytes) -> Mask:
    """Decode a mask from :func:`encode_mask` to uint8 [H, W].

    Raises:
        ValueError: the bytes are not an 8-bit grey PNG, or it has more than ``MAX_PIXELS`` pixels.
    """
    try:
        fits = _is_png_that_fits(data)
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if fits else None
    except cv2.error:
        mask = None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"expected an 8-bit grey PNG, got {len(data)} other bytes; write the mask set again")
    return np.asarray(mask, np.uint8)


def encode_soft(soft: NDArray[np.float32]) -> bytes:
    """Encode probabilities in [0, 1], float32 [H, W], as an 8-bit PNG with an error of at most 1/510.

    Raises:
        ValueError: a value is not finite or outside [0, 1].
    """
    if not np.isfinite(soft).all() or soft.min(initial=0.0) < 0 or soft.max(initial=0.0) > 1:
        raise ValueError(f"a soft mask must lie in [0, 1], got values from {soft.min()} to {soft.max()}")
    return _encode_grey(np.rint(soft * 255).astype(np.uint8), cv2.IMWRITE_PNG_STRATEGY_FILTERED)


def decode_soft(data: bytes) -> NDArray[np.float32]:
    """Decode probabilities from :func:`encode_soft` to float32 [H, W] in [0, 1].

    Raises:
        ValueError: the bytes are not an 8-bit grey PNG.
    """
    return decode_mask(data).astype(np.float32) / np.float32(255)


def from_class_map(
    class_map: NDArray[Any], *, background: int | None = 0, void: Sequence[int] = (IGNORE,)
) -> tuple[Mask, list[int]]:
    """Convert a map of class ids to an index mask, uint8 [H, W], and its class ids in ascending order.

    Args:
        class_map: integers [H, W] in 0..65535, or in ``void``.
        background: value that stands for no class; None if every value is a class.
        void: values to ignore, such as -1.

    Raises:
        ValueError: the map has more than 254 classes or a value out of range.
    """
    if outside := [value for value in void if not 0 <= value <= MAX_CLASS_ID]:
        class_map = np.where(np.isin(class_map, outside), _OUTSIDE, class_map.astype(np.int64))
        void = (*void, _OUTSIDE)
    low, high = int(class_map.min()), int(class_map.max())
    if low < 0 or high > (_OUTSIDE if outside else MAX_CLASS_ID):
        raise ValueError(
            f"class ids must lie in 0..{MAX_CLASS_ID}, got {low}..{high}; values that mean no label have to be given "
            "as such (--source.void)"
        )
    values = np.flatnonzero(np.bincount(class_map.ravel()))
    class_ids = [int(value) for value in values if value != background and value not in void]
    if len(class_ids) > MAX_CLASSES:
        raise ValueError(f"a mask holds at most {MAX_CLASSES} classes, got {len(class_ids)}; is it a class-index mask?")
    table = np.zeros(high + 1, np.uint8)
    table[class_ids] = np.arange(1, len(class_ids) + 1)
    table[[value for value in void if 0 <= value <= high]] = IGNORE
    return table[class_map], class_ids


def mask_row(
    image_id: str,
    mask: Mask | None,
    class_ids: Sequence[int] = (),
    *,
    soft: NDArray[np.float32] | None = None,
    scores: Mapping[str, float | bool] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """Return one row of a mask part as a dictionary.

    Args:
        image_id: id of the image in the same row of the image part.
        mask: index mask, uint8 [H, W]; None if there is no mask, with the reason in ``error``.
        class_ids: ``class_ids[v - 1]`` is the class of value v.
        soft: probabilities of the object, float32 [H, W].
        scores: raw scores and gates by their names in the schema.
        error: reason why there is no mask.

    Raises:
        ValueError: a mask value has no class, or there is neither a mask nor an error.
    """
    if mask is None:
        if not error:
            raise ValueError(f"row {image_id} has neither a mask nor an error; give the reason as `error`")
        return {"image_id": image_id, "error": error, "scores": dict(scores) if scores else None}
    if len(class_ids) > MAX_CLASSES:
        raise ValueError(f"a mask holds at most {MAX_CLASSES} classes, got {len(class_ids)}")
    data = encode_mask(mask)
    counts = np.bincount(mask.ravel(), minlength=256)
    if counts[len(class_ids) + 1 : IGNORE].any():
        value = int(np.flatnonzero(counts[:IGNORE]).max())
        raise ValueError(f"row {image_id}: the mask has the value {value}, but there are {len(class_ids)} classes")
    return {
        "image_id": image_id,
        "mask": data,
        "classes": [{"id": int(c), "pixels": int(counts[v + 1])} for v, c in enumerate(class_ids)],
        "soft": None if soft is None else encode_soft(soft),
        "scores": dict(scores) if scores else None,
        "error": error,
    }


def binary_mask(mask: Mask, classes: Sequence[Mapping[str, int] | int], class_id: int) -> Mask:
    """Return the mask of one class: uint8 [H, W] with 1 for the class, 0 elsewhere and 255 for ignored pixels.

    Args:
        mask: index mask, uint8 [H, W].
        classes: ``classes`` of the row as in the schema, or only their ids.
        class_id: id of the class.
    """
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for position, entry in enumerate(classes):
        entry_id = entry["id"] if isinstance(entry, Mapping) else entry
        table[position + 1] = entry_id == class_id
    return np.asarray(cv2.LUT(mask, table), np.uint8)


def binary_value(mask: Mask, value: int) -> Mask:
    """Return the mask of one value: uint8 [H, W] with 1 for it, 0 elsewhere and 255 for ignored pixels."""
    table = np.zeros(256, np.uint8)
    table[value], table[IGNORE] = 1, IGNORE
    return np.asarray(cv2.LUT(mask, table), np.uint8)


def any_class(mask: Mask) -> Mask:
    """Return the union of all classes: uint8 [H, W] with 1 for any class, 0 elsewhere and 255 for ignored pixels."""
    return np.where(mask == IGNORE, IGNORE, np.minimum(mask, 1)).astype(np.uint8)


def _is_png_that_fits(data: bytes) -> bool:
    """Return whether the bytes are an intact PNG of at most ``MAX_PIXELS``, judged by its headers alone."""
    size = intact_png_size(data)
    return size is not None and size[0] * size[1] <= MAX_PIXELS


def _encode_grey(values: Mask, strategy: int) -> bytes:
    if values.ndim != 2 or values.dtype != np.uint8 or values.size == 0:
        raise ValueError(f"a mask must be uint8 [H, W], got {values.dtype} {list(values.shape)}")
    success, buffer = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, strategy])
    assert success, "OpenCV could not encode a PNG"
    return buffer.tobytes()
