"""Masks to and from the bytes that a mask part holds.

An index mask is uint8 [H, W]: 0 background, value v in 1..254 stands for ``classes[v - 1]`` of its own row, 255 is
ignored. A data set of a thousand classes fits, because a single picture never shows more than 254 of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Mask
from fss.images.headers import intact_png_size

MAX_CLASSES = 254
MAX_CLASS_ID = 65535  # of a class map
MAX_PIXELS = 1 << 28  # of a mask: what unpacks to more is no mask of a photograph


def encode_mask(mask: Mask) -> bytes:
    """Encode a mask, uint8 [H, W], as an 8-bit grey PNG (lossless)."""
    # Run lengths suit flat areas: half the time and less space than the usual matching, measured on real masks.
    return _encode_grey(mask, cv2.IMWRITE_PNG_STRATEGY_RLE)


def decode_mask(data: bytes) -> Mask:
    """Decode what :func:`encode_mask` wrote.

    Raises:
        ValueError: the bytes are no 8-bit grey PNG, or one of more than ``MAX_PIXELS``.
    """
    try:
        fits = _is_png_that_fits(data)
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if fits else None
    except cv2.error:
        mask = None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"expected an 8-bit grey PNG, got {len(data)} bytes that are none; write the mask set again")
    return np.asarray(mask, np.uint8)


def encode_soft(soft: NDArray[np.float32]) -> bytes:
    """Encode probabilities in [0, 1], [H, W], as an 8-bit PNG; the error is at most 1/510."""
    if not np.isfinite(soft).all() or soft.min(initial=0.0) < 0 or soft.max(initial=0.0) > 1:
        raise ValueError(f"a soft mask lies in [0, 1], got values from {soft.min()} to {soft.max()}")
    return _encode_grey(np.rint(soft * 255).astype(np.uint8), cv2.IMWRITE_PNG_STRATEGY_FILTERED)


def decode_soft(data: bytes) -> NDArray[np.float32]:
    """Decode what :func:`encode_soft` wrote, to float32 [H, W] in [0, 1]."""
    return decode_mask(data).astype(np.float32) / np.float32(255)


def from_class_map(
    class_map: NDArray[Any], *, background: int | None = 0, void: Sequence[int] = (IGNORE,)
) -> tuple[Mask, list[int]]:
    """Turn a map of class ids into an index mask and its classes in ascending order.

    Args:
        class_map: integers [H, W] in 0..65535.
        background: the value that stands for no class; None where every value is a class.
        void: values to ignore.

    Raises:
        ValueError: more than 254 classes in one picture, or a value out of range.
    """
    low, high = int(class_map.min()), int(class_map.max())
    if low < 0 or high > MAX_CLASS_ID:
        raise ValueError(f"class ids of a map lie in 0..{MAX_CLASS_ID}, got {low}..{high}; is it a class-index mask?")
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
    """Make one row of a mask part.

    Args:
        image_id: of the image in the same row of the image part.
        mask: index mask, uint8 [H, W]; None where there is none, and then ``error`` says why.
        class_ids: ``class_ids[v - 1]`` is the class of value v.
        soft: probability of the object, float32 [H, W].
        scores: raw scores and gates, named as in the schema.
        error: why there is no mask.

    Raises:
        ValueError: a value of the mask without a class, or neither mask nor error.
    """
    if mask is None:
        if not error:
            raise ValueError(f"row {image_id} has no mask: say why in `error`")
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
    """Return the mask of one class: uint8 [H, W] with 1 for it, 0 elsewhere, 255 ignored.

    Args:
        mask: index mask, uint8 [H, W].
        classes: the row's ``classes``, as the schema has them, or only their ids.
        class_id: the class asked for.
    """
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for position, entry in enumerate(classes):
        found = entry["id"] if isinstance(entry, Mapping) else entry
        table[position + 1] = found == class_id
    return np.asarray(cv2.LUT(mask, table), np.uint8)


def any_class(mask: Mask) -> Mask:
    """Return the mask of all classes together: uint8 [H, W] with 1 for any of them, 0 elsewhere, 255 ignored."""
    return np.where(mask == IGNORE, IGNORE, np.minimum(mask, 1)).astype(np.uint8)


def _is_png_that_fits(data: bytes) -> bool:
    """Tell by the header, before any pixel is unpacked; no other decoder is reached."""
    size = intact_png_size(data)
    return size is not None and size[0] * size[1] <= MAX_PIXELS


def _encode_grey(values: Mask, strategy: int) -> bytes:
    if values.ndim != 2 or values.dtype != np.uint8 or values.size == 0:
        raise ValueError(f"a mask is uint8 [H, W], got {values.dtype} {list(values.shape)}")
    done, buffer = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, strategy])
    assert done
    return buffer.tobytes()
