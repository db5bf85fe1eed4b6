"""Masks of SBD: MATLAB files (level 5) with the class ids in ``GTcls.Segmentation``.

A file may come from anywhere, and SciPy allocates what it asks for. So its elements are unpacked up to a limit, and the
sizes of all its arrays are checked, before SciPy parses it. The format: MathWorks, "MAT-File Format", version 5.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fss.core.arrays import Mask
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

SUFFIX = ".mat"
_HEADER = 128  # bytes
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_SPARSE = 5  # class of a matrix
_DEPTH = 8  # of arrays within arrays; SBD has 3


class _Element(NamedTuple):
    kind: int
    data: memoryview


def decode_sbd(data: bytes, limits: DecodeLimits) -> Mask:
    """Return the class ids in a file of SBD, uint8 [H,W].

    Raises:
        DecodeError: the file is no mask of SBD, or it or one of its arrays is larger than the limits.
    """
    from scipy.io import loadmat

    if len(data) > limits.max_bytes:
        raise DecodeError("too-many-bytes", f"the file has more than {limits.max_bytes} bytes (limits.max_bytes)")
    try:
        content = _unpack(data, limits)
        labels = loadmat(io.BytesIO(content), squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
        mask = np.asarray(labels, np.uint8).reshape(labels.shape[0], labels.shape[1])
        if (mask != labels).any():
            raise ValueError(f"its values, {labels.min()} to {labels.max()}, are no class ids of 8 bits")
        return mask
    except DecodeError:
        raise
    except Exception as error:  # the reader raises many kinds; each says that this file is no mask
        raise DecodeError("bad-annotation", f"no GTcls.Segmentation of SBD in it: {error}") from error


def _unpack(data: bytes, limits: DecodeLimits) -> bytes:
    """Return a file with all elements unpacked, whose arrays are within the limits."""
    order = _ORDERS.get(data[126:128])
    if order is None:
        raise ValueError("it is no MATLAB file of level 5")
    pieces, left = [data[:_HEADER]], limits.max_bytes
    for element in _elements(memoryview(data)[_HEADER:], order):
        content = element.data
        if element.kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, left + 1)
            left -= len(unpacked)
            if left < 0:
                text = f"its content has more than {limits.max_bytes} bytes (limits.max_bytes)"
                raise DecodeError("too-many-bytes", text)
            pieces.append(unpacked)
            (element,) = _elements(memoryview(unpacked), order)
        else:
            pieces += [struct.pack(f"{order}II", element.kind, len(content)), bytes(content)]
        _check_sizes(element, order, limits)
    return b"".join(pieces)


def _check_sizes(element: _Element, order: str, limits: DecodeLimits, depth: int = 0) -> None:
    """Check the sizes of an array and of all arrays within it."""
    if element.kind != _MATRIX or not len(element.data):
        return
    if depth > _DEPTH:
        raise ValueError(f"it has arrays within more than {_DEPTH} arrays")
    flags, sizes, *content = _elements(element.data, order)
    sides = struct.unpack(f"{order}{len(sizes.data) // 4}i", sizes.data)
    count, sparse = math.prod(sides), struct.unpack(f"{order}I", flags.data[:4])[0] & 0xFF == _SPARSE
    if min(sides) < 0 or (count > len(element.data) and not sparse):
        raise ValueError(f"it asks for an array of {' x '.join(map(str, sides))}, and has {len(element.data)} bytes")
    if count > limits.max_pixels:
        raise DecodeError(
            "too-many-pixels",
            f"it has an array of {' x '.join(map(str, sides))}; the limit is {limits.max_pixels} (limits.max_pixels)",
        )
    for each in content:
        _check_sizes(each, order, limits, depth + 1)


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that lie one behind another."""
    start = 0
    while start + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        if kind >> 16:  # a small element: its size is in the upper half, its data in the next 4 bytes
            kind, size, begin, end = kind & 0xFFFF, kind >> 16, start + 4, start + 8
        else:
            begin = start + 8
            end = begin + size + (0 if kind == _COMPRESSED else -size % 8)
        if begin + size > len(data):
            raise ValueError("it ends within an element")
        yield _Element(kind, data[begin : begin + size])
        start = end
