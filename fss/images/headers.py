"""What the headers of PNG and WebP say, read before or beside their decoders.

Pillow fills a PNG whose pixels are missing or damaged with black and says nothing, and WebP's decoder reserves the
whole canvas on opening; both are settled here. Formats: RFC 2083 (PNG) and RFC 9649 (WebP).
"""

import struct
import zlib
from collections.abc import Iterator

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BUFFER = 1 << 20


class HeaderError(ValueError):
    """The file is cut off or damaged; ``reason`` is ``truncated`` or ``corrupt``."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


def check_png(data: bytes) -> None:
    """Check that the pixels of a PNG are all there and undamaged, in bounded memory.

    Raises:
        HeaderError: they are not.
    """
    inflate = zlib.decompressobj()
    needed, found = -1, 0
    try:
        for name, body in _png_chunks(data):
            if name == b"IHDR":
                needed = _png_bytes(*struct.unpack(">IIBBBBB", body))
            elif name == b"IDAT":
                found += _inflated(inflate, body)
    except (zlib.error, struct.error, KeyError) as error:
        raise HeaderError("corrupt", f"damaged PNG: {error}") from None
    if found < needed or needed < 0:
        raise HeaderError("truncated", f"{found} of {max(needed, 0)} bytes of pixels are there")


def intact_png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG whose chunks all lie within the file, None for anything else.

    OpenCV's decoder reserves what a chunk claims to hold, up to four gigabytes, before it finds the file too short.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    place = 8
    while place < len(data):
        if place + 12 > len(data):
            return None
        (size,) = struct.unpack_from(">I", data, place)
        place += size + 12
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if place == len(data) else None


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height that a WebP header tells.

    Raises:
        HeaderError: the file is shorter than its header says.
    """
    try:
        (size,) = struct.unpack_from("<I", data, 4)
        if size + 8 > len(data):
            raise HeaderError("truncated", f"{len(data)} of {size + 8} bytes are there")
        chunk = data[12:16]
        if chunk == b"VP8X":
            low, middle, high = struct.unpack_from("<HHH", data, 24)
            return (low | (middle & 0xFF) << 16) + 1, (middle >> 8 | high << 8) + 1
        if chunk == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = struct.unpack_from("<HH", data, 26)
    except struct.error:
        raise HeaderError("truncated", "the WebP header is cut off") from None
    return width & 0x3FFF, height & 0x3FFF


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    place, view = 8, memoryview(data)
    while place + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        yield data[place + 4 : place + 8], view[place + 8 : place + 8 + size]
        place += size + 12


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


def _inflated(inflate: "zlib._Decompress", body: memoryview) -> int:
    """Return how many bytes ``body`` unpacks to; none of them are kept."""
    total = 0
    rest: bytes | memoryview = body
    while len(rest) and not inflate.eof:
        total += len(inflate.decompress(rest, _BUFFER))
        rest = inflate.unconsumed_tail
    return total
