"""Checks of PNG and WebP headers that their decoders leave out.

Pillow silently fills missing or damaged pixels of a PNG with black, and the WebP decoder allocates the whole canvas on
opening. Formats: RFC 2083 (PNG) and RFC 9649 (WebP).
"""

import struct
import zlib
from collections.abc import Iterator

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BUFFER = 1 << 20


class HeaderError(ValueError):
    """The file is incomplete or damaged; ``reason`` is ``truncated`` or ``corrupt``."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


def check_png(data: bytes) -> None:
    """Check in bounded memory that the pixels of a PNG are complete and undamaged.

    Raises:
        HeaderError: pixels are missing or damaged.
    """
    inflate = zlib.decompressobj()
    expected, unpacked = -1, 0
    try:
        for name, body in _png_chunks(data):
            if name == b"IHDR":
                expected = _png_bytes(*struct.unpack(">IIBBBBB", body))
            elif name == b"IDAT":
                unpacked += _inflated_size(inflate, body)
    except (zlib.error, struct.error, KeyError):
        raise HeaderError("corrupt", "its pixels are damaged; copy or download it again") from None
    if unpacked < expected or expected < 0:
        raise HeaderError(
            "truncated", f"the file ends before its pixels do: {unpacked} of {max(expected, 0)} bytes are there"
        )


def intact_png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels of a PNG whose chunks all lie within the file; None for anything else.

    OpenCV's decoder allocates the size that a chunk claims, up to 4 GiB, before it notices that the file is too short.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    offset = 8
    while offset < len(data):
        if offset + 12 > len(data):
            return None
        (size,) = struct.unpack_from(">I", data, offset)
        offset += size + 12
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if offset == len(data) else None


def widen_bmp_palette(data: bytes) -> bytes:
    """Return a BMP whose palette Pillow reads right.

    Pillow 12 takes pixels of 8 bits as pixels of 1 bit if the palette is black and white, and those of 4 bits as 8 if
    it is a ramp of grey. One more colour, which no pixel has, avoids both.
    """
    header, bits, colors = (int.from_bytes(data[start:end], "little") for start, end in ((14, 18), (28, 30), (46, 50)))
    colors = colors or 1 << bits
    end = 14 + header + 4 * colors
    if header < 40 or not (bits == 4 or (bits == 8 and colors == 2)) or end > len(data):
        return data
    offset = int.from_bytes(data[10:14], "little") + 4
    start = data[:10] + offset.to_bytes(4, "little") + data[14:46] + (colors + 1).to_bytes(4, "little") + data[50:end]
    return start + b"\1\2\3\0" + data[end:]


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels from a WebP header.

    Raises:
        HeaderError: the file is shorter than its header says.
    """
    try:
        (size,) = struct.unpack_from("<I", data, 4)
        if size + 8 > len(data):
            raise HeaderError(
                "truncated", f"the file ends before its pixels do: {len(data)} of {size + 8} bytes are there"
            )
        chunk = data[12:16]
        if chunk == b"VP8X":
            low, middle, high = struct.unpack_from("<HHH", data, 24)
            return (low | (middle & 0xFF) << 16) + 1, (middle >> 8 | high << 8) + 1
        if chunk == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = struct.unpack_from("<HH", data, 26)
    except struct.error:
        raise HeaderError("truncated", "the file ends before its pixels do") from None
    return width & 0x3FFF, height & 0x3FFF


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    offset, view = 8, memoryview(data)
    while offset + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, offset)
        yield data[offset + 4 : offset + 8], view[offset + 8 : offset + 8 + size]
        offset += size + 12


def _png_bytes(width: int, height: int, depth: int, colour: int, _: int, __: int, interlaced: int) -> int:
    """Return the length of the unpacked rows, each with its filter byte."""
    bits = depth * _CHANNELS[colour]
    steps = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, dx, dy in steps:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _inflated_size(inflate: "zlib._Decompress", body: memoryview) -> int:
    """Return the number of bytes that ``body`` unpacks to, without storing them."""
    total = 0
    rest: bytes | memoryview = body
    while len(rest) and not inflate.eof:
        total += len(inflate.decompress(rest, _BUFFER))
        rest = inflate.unconsumed_tail
    return total
