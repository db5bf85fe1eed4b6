"""Run lengths of masks in the encodings of COCO, CVAT and Label Studio.

COCO counts pixels of background and object in turn, column by column, background first; a list of counts, or a string
of six-bit characters (https://github.com/cocodataset/cocoapi). CVAT counts row by row within a box
(https://docs.cvat.ai/docs/manual/advanced/xml_format). Label Studio packs the runs of an RGBA picture into bits
(https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack); the object is where the picture is opaque.

Counts come from files of other programs, so they are checked before an array is made.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fss.core.arrays import BoolArray, Int64
from fss.images.decode_errors import DecodeError

_FIRST_CHARACTER = 48  # a character holds five bits of a count and a bit that says whether more follow
_MAX_CHARACTERS = 8  # per count
_LENGTH_BITS = (3, 4, 8, 16)  # sizes of the lengths that the brush encoder writes
_CHANNELS = 4
_WORD_BITS = 8


def encode_columns(mask: BoolArray) -> list[int]:
    """Return COCO's counts of a mask, bool [H,W]: column by column, background first."""
    return _encode(mask.ravel(order="F"))


def decode_columns(segmentation: Any, height: int, width: int) -> BoolArray:
    """Return the mask, bool [H,W], of COCO's run lengths: ``{"size": [height, width], "counts": list or string}``.

    Raises:
        DecodeError: the size is not that of the photograph, or the counts are malformed.
    """
    return _decode(column_runs(segmentation, height, width)).reshape((height, width), order="F")


def column_runs(segmentation: Any, height: int, width: int) -> Int64:
    """Return the checked counts of COCO's run lengths, which sum to height x width; see :func:`decode_columns`.

    Raises:
        DecodeError: the size is not that of the photograph, or the counts are malformed.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise DecodeError("size-mismatch", f"the run lengths have the size {size}; the photograph is {height, width}")
    return _check(_unpack(counts) if isinstance(counts, str) else counts, height * width)


def encode_box(mask: BoolArray) -> tuple[list[int], tuple[int, int, int, int]]:
    """Return CVAT's counts of a mask that is not empty, and its box: left, top, width and height in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    return _encode(mask[top : top + height, left : left + width].ravel()), (left, top, width, height)


def decode_box(counts: Any, box: Sequence[int], height: int, width: int) -> BoolArray:
    """Return the mask, bool [H,W], of CVAT's counts in a box: left, top, width and height in pixels.

    Raises:
        DecodeError: the box leaves the photograph, or the counts are malformed.
    """
    left, top, box_width, box_height = box
    if min(left, top) < 0 or min(box_width, box_height) < 1 or left + box_width > width or top + box_height > height:
        raise DecodeError("bad-box", f"left, top, width, height are {tuple(box)}; the photograph is {height, width}")
    mask = np.zeros((height, width), bool)
    runs = _check(counts, box_width * box_height)
    mask[top : top + box_height, left : left + box_width] = _decode(runs).reshape(box_height, box_width)
    return mask


def encode_brush(mask: BoolArray) -> list[int]:
    """Return the bytes of Label Studio's encoding of a mask, bool [H,W]: an RGBA picture that is 255 on the object."""
    values = mask.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    starts = [0, *edges.tolist(), values.size]
    header = f"{values.size * _CHANNELS:032b}{_WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _LENGTH_BITS)
    pieces = [header]
    for start, end in pairwise(starts):
        word = "11111111" if values[start] else "00000000"
        pieces += [f"1{length}{word}" for length in _lengths((end - start) * _CHANNELS)]
    bits = "".join(pieces)
    padded = bits + "0" * (-len(bits) % 8)
    return list(int(padded, 2).to_bytes(len(padded) // 8, "big"))


def decode_brush(data: Any, height: int, width: int) -> BoolArray:
    """Return the mask, bool [H,W], of Label Studio's encoding: a list of bytes.

    Raises:
        DecodeError: the bytes are malformed, end early, or have another number of pixels.
    """
    if not isinstance(data, list) or any(type(byte) is not int or not 0 <= byte < 256 for byte in data):
        raise DecodeError("bad-run-lengths", "expected a list of bytes, 0 to 255")
    stream = _Bits(bytes(data))
    pixels, word = stream.read(32), stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in range(4)]
    if pixels != height * width * _CHANNELS or word != _WORD_BITS:
        raise DecodeError(
            "size-mismatch", f"{pixels} samples of {word} bits; the photograph is {height, width} with 4 of 8 bits each"
        )
    opaque, counts, position = [], [], 0
    while position < pixels:
        repeated, length = stream.read(1), stream.read(sizes[stream.read(2)]) + 1
        if position + length > pixels:
            raise DecodeError("bad-run-lengths", f"the runs cover more than the {pixels} samples of the picture")
        for count in [length] if repeated else [1] * length:
            opaque.append(stream.read(_WORD_BITS) > 0)
            counts.append(count)
        position += length
    return np.repeat(opaque, counts)[_CHANNELS - 1 :: _CHANNELS].reshape(height, width)


class _Bits:
    """Bits of a byte string, most significant first."""

    def __init__(self, data: bytes):
        self._data = data
        self._position = 0

    def read(self, bits: int) -> int:
        """Return the next bits, at most 32, as an integer.

        Raises:
            DecodeError: the bytes end before.
        """
        start, end = self._position, self._position + bits
        if end > 8 * len(self._data):
            raise DecodeError("bad-run-lengths", "the bytes end before the picture is complete")
        self._position = end
        window = self._data[start // 8 : (end + 7) // 8]
        return int.from_bytes(window, "big") >> (-end % 8) & ((1 << bits) - 1)


def _lengths(samples: int) -> list[str]:
    """Return the bits of the lengths of a run, which is split where it is longer than the largest length."""
    largest = 1 << _LENGTH_BITS[-1]
    pieces = [largest] * (samples // largest) + [samples % largest] * (samples % largest > 0)
    texts = []
    for piece in pieces:
        number = next(number for number, bits in enumerate(_LENGTH_BITS) if piece <= 1 << bits)
        texts.append(f"{number:02b}{piece - 1:0{_LENGTH_BITS[number]}b}")
    return texts


def _encode(values: BoolArray) -> list[int]:
    """Return the lengths of the runs of False and True in turn, False first."""
    changes = np.flatnonzero(np.diff(np.concatenate(([False], values))))
    return [int(length) for length in np.diff(np.concatenate(([0], changes, [values.size])))]


def _decode(runs: Int64) -> BoolArray:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def _check(counts: Any, pixels: int) -> Int64:
    """Return counts as an array if they are integers of at least 0 that sum to the number of pixels.

    Raises:
        DecodeError: they are not.
    """
    try:
        runs = np.asarray(counts)
    except (ValueError, OverflowError):
        runs = np.zeros(0)
    if runs.ndim != 1 or runs.dtype.kind != "i" or int(runs.min(initial=0)) < 0 or int(runs.max(initial=0)) > pixels:
        raise DecodeError("bad-run-lengths", f"expected whole numbers between 0 and {pixels}")
    if (total := int(runs.sum())) != pixels:
        raise DecodeError("bad-run-lengths", f"they cover {total} of {pixels} pixels")
    return runs.astype(np.int64)


def _unpack(text: str) -> Int64:
    """Return the counts of COCO's string: from the third on, each is stored as the difference to the last but one.

    Raises:
        DecodeError: the string has other characters, or ends within a count.
    """
    codes = np.frombuffer(text.encode(errors="replace"), np.uint8).astype(np.int64) - _FIRST_CHARACTER
    ends = np.flatnonzero((codes & 32) == 0)
    if not text.isascii() or codes.min(initial=0) < 0 or codes.max(initial=0) > 63:
        raise DecodeError("bad-run-lengths", "the string of counts has other characters")
    if len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise DecodeError("bad-run-lengths", "the string of counts ends within a count")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise DecodeError("bad-run-lengths", "a count in the string is too long")
    digits = np.arange(len(codes)) - np.repeat(starts, lengths)
    counts = np.add.reduceat((codes & 31) << 5 * digits, starts)
    counts -= ((codes[ends] & 16) != 0) * (1 << 5 * lengths)  # two's complement
    for first in (1, 2):
        counts[first::2] = np.cumsum(counts[first::2])
    return np.asarray(counts, np.int64)
