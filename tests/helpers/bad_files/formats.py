"""Files that no photograph library would want, made on the spot: one function per kind.

Each kind says what must become of it: the reason in the quarantine, or ``OK`` where the picture inside is still good.
Add a kind by writing one more function under ``@kind``; ``worse_files`` holds the rest of the hundred.
"""

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

OK = "ok-after-repair"
SIZE = (48, 40)  # width, height of the good picture that most kinds start from


@dataclass(frozen=True)
class BadFile:
    name: str
    data: bytes
    expected: str


_KINDS: list[tuple[str, str, Callable[[], bytes]]] = []


def kind(name: str, expected: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        _KINDS.append((name, expected, make))
        return make

    return register


def bad_files() -> list[BadFile]:

    return [BadFile(name, make(), expected) for name, expected, make in _KINDS]


def picture(size: tuple[int, int] = SIZE) -> Image.Image:
    width, height = size
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5 % 256, y * 6 % 256, (x * y) % 256], axis=-1).astype(np.uint8))


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    end = png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + end


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def after(data: bytes, marker: bytes, offset: int, new: bytes) -> bytes:
    place = data.index(marker) + offset
    return data[:place] + new + data[place + len(new) :]


def with_tiff_tag(data: bytes, tag: int, value: int) -> bytes:
    """Set a single value of a little-endian TIFF's first directory."""
    (place,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * entries, 12):
        found, form, number = struct.unpack_from("<HHI", data, entry)
        if found == tag and number == 1:
            new = struct.pack("<H" if form == 3 else "<I", value)
            return data[: entry + 8] + new + data[entry + 8 + len(new) :]
    raise KeyError(tag)


# Not pictures at all


@kind("empty.jpg", "empty")
def _() -> bytes:
    return b""


@kind("one_byte.jpg", "unknown-format")
def _() -> bytes:
    return b"\xff"


@kind("zeros.png", "unknown-format")
def _() -> bytes:
    return bytes(4096)


@kind("note.jpg", "unknown-format")
def _() -> bytes:
    return b"the photograph is on the other disk\n"


@kind("not_found.jpg", "unknown-format")
def _() -> bytes:
    return b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>"


@kind("archive.png", "unknown-format")
def _() -> bytes:
    return b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(200)


@kind("document.tif", "unknown-format")
def _() -> bytes:
    return b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"


@kind("postscript.jpg", "unknown-format")
def _() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\nshowpage\n"


@kind("drawing.png", "unknown-format")
def _() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="9" height="9"/></svg>'


@kind("phone.heic", "corrupt" if importlib.util.find_spec("pillow_heif") else "unsupported")
def _() -> bytes:
    return b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(500)


@kind("noise.bmp", "unknown-format")
def _() -> bytes:
    return np.random.default_rng(0).integers(128, 255, 5000).astype(np.uint8).tobytes()


# Cut off


@kind("magic_only.jpg", "corrupt")
def _() -> bytes:
    return b"\xff\xd8\xff"


@kind("header_only.jpg", "truncated")
def _() -> bytes:
    return encoded("JPEG")[:200]


@kind("half.jpg", "truncated")
def _() -> bytes:
    data = encoded("JPEG")
    return data[: data.index(b"\xff\xda") + 200]


@kind("half_progressive.jpg", "truncated")
def _() -> bytes:
    data = encoded("JPEG", picture((200, 160)), progressive=True)
    return data[: len(data) // 2]


@kind("half.png", "truncated")
def _() -> bytes:
    data = encoded("PNG", picture((200, 160)))
    return data[: len(data) // 2]


@kind("signature_only.png", "truncated")
def _() -> bytes:
    return encoded("PNG")[:8]


@kind("half.gif", "truncated")
def _() -> bytes:
    data = encoded("GIF", picture((200, 160)))
    return data[: len(data) * 3 // 4]


@kind("signature_only.gif", "truncated")
def _() -> bytes:
    return b"GIF89a"


@kind("half.webp", "truncated")
def _() -> bytes:
    data = encoded("WEBP", picture((200, 160)))
    return data[: len(data) // 2]


@kind("signature_only.webp", "truncated")
def _() -> bytes:
    return b"RIFF\x24\x00\x00\x00WEBP"


@kind("half.bmp", "truncated")
def _() -> bytes:
    data = encoded("BMP")
    return data[: len(data) // 2]


@kind("half.tif", "truncated")
def _() -> bytes:
    data = encoded("TIFF", picture((200, 160)))  # directory first, pixels after it
    return data[: len(data) // 2]


@kind("signature_only.tif", "truncated")
def _() -> bytes:
    return b"II*\x00"


@kind("no_end_marker.jpg", "truncated")
def _() -> bytes:
    return encoded("JPEG")[:-2]


# Lies


@kind("bomb.png", "too-many-pixels")
def _() -> bytes:
    return png(60_000, 60_000, bytes(60_001 * 100))


@kind("bomb.jpg", "too-many-pixels")
def _() -> bytes:
    return with_jpeg_size(encoded("JPEG"), 65_000, 65_000)


@kind("bomb.gif", "too-many-pixels")
def _() -> bytes:
    return after(encoded("GIF"), b"GIF8", 6, b"\xff\xff\xff\xff")


@kind("bomb_frame.gif", "too-many-pixels")
def _() -> bytes:
    return after(encoded("GIF"), b"\x2c\x00\x00\x00\x00", 5, b"\xff\xff\xff\xff")


@kind("bomb.webp", "too-many-pixels")
def _() -> bytes:
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x00" * 2
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@kind("bomb.bmp", "too-many-pixels")
def _() -> bytes:
    return after(encoded("BMP"), b"BM", 18, struct.pack("<ii", 60_000, 60_000))


@kind("bomb.tif", "too-many-pixels")
def _() -> bytes:
    return with_tiff_tag(with_tiff_tag(encoded("TIFF"), 256, 65_000), 257, 65_000)


@kind("text_bomb.png", "corrupt")
def _() -> bytes:
    return png(48, 40, bytes(49 * 40), extra=png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(50_000_000))))


@kind("taller_than_its_data.jpg", "truncated")
def _() -> bytes:
    return with_jpeg_size(encoded("JPEG"), SIZE[0], 4000)[:-2]


@kind("taller_than_its_data.png", "truncated")
def _() -> bytes:
    return png(48, 4000, bytes(49 * 40))


@kind("zero_wide.png", "corrupt")
def _() -> bytes:
    return png(0, 40, bytes(40))


@kind("zero_high.jpg", "corrupt")
def _() -> bytes:
    return with_jpeg_size(encoded("JPEG"), SIZE[0], 0)


@kind("icon.png", "side-too-short")
def _() -> bytes:
    return encoded("PNG", picture((1, 1)))


@kind("strip.png", "side-too-long")
def _() -> bytes:
    return png(33_000, 16, bytes(33_001 * 16))


@kind("scans.jpg", "too-many-scans")
def _() -> bytes:
    data = encoded("JPEG", progressive=True)
    place = data.index(b"\xff\xda")
    return data[:place] + data[place:-2] * 1001 + data[-2:]


# Damaged


@kind("magic_then_noise.jpg", "corrupt")
def _() -> bytes:
    return b"\xff\xd8\xff" + np.random.default_rng(1).integers(0, 255, 3000).astype(np.uint8).tobytes()


@kind("no_quantisation.jpg", "corrupt")
def _() -> bytes:
    data = encoded("JPEG")
    start, stop = data.index(b"\xff\xdb"), data.index(b"\xff\xc0")
    return data[:start] + data[stop:]


@kind("bad_checksum.png", "corrupt")
def _() -> bytes:
    data = bytearray(encoded("PNG"))
    data[29] ^= 0xFF  # of the header chunk
    return bytes(data)


@kind("bad_pixels.png", "corrupt")
def _() -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 40, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"not deflated at all") + png_chunk(b"IEND", b"")


@kind("no_pixels.png", "truncated")
def _() -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 40, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b"")


@kind("bad_depth.png", "corrupt")
def _() -> bytes:
    return png(48, 40, bytes(49 * 40), depth=7)


@kind("no_frame.gif", "corrupt")
def _() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 48, 40, 0, 0, 0) + b"\x3b"


@kind("bad_pixels.webp", "corrupt")
def _() -> bytes:
    data = bytearray(encoded("WEBP", lossless=True))
    data[25:] = b"\xff" * (len(data) - 25)
    return bytes(data)


@kind("directory_elsewhere.tif", "corrupt")
def _() -> bytes:
    return b"II*\x00" + struct.pack("<I", 2**31) + bytes(64)


@kind("no_size.tif", "corrupt")
def _() -> bytes:
    return b"II*\x00" + struct.pack("<IHHHIII", 8, 1, 259, 3, 1, 1, 0)


@kind("strange_compression.tif", "unsupported")
def _() -> bytes:
    return with_tiff_tag(encoded("TIFF"), 259, 60_000)


@kind("bad_strip.tif", "corrupt")
def _() -> bytes:
    data = bytearray(encoded("TIFF", compression="tiff_lzw"))
    data[8:60] = b"\xaa" * 52
    return bytes(data)


@kind("strange_header.bmp", "unsupported")
def _() -> bytes:
    return after(encoded("BMP"), b"BM", 14, struct.pack("<I", 7))


@kind("strange_compression.bmp", "unsupported")
def _() -> bytes:
    return after(encoded("BMP"), b"BM", 30, struct.pack("<I", 77))


# The picture inside is good


@kind("misnamed.png", OK)
def _() -> bytes:
    return encoded("JPEG")


@kind("trailing_garbage.jpg", OK)
def _() -> bytes:
    return encoded("JPEG") + b"garbage" * 100


@kind("no_huffman_tables.jpg", OK)  # as in motion JPEG: the standard tables are meant
def _() -> bytes:
    data = encoded("JPEG")
    start, stop = data.index(b"\xff\xc4"), data.index(b"\xff\xda")
    return data[:start] + data[stop:]


@kind("broken_exif.jpg", OK)
def _() -> bytes:
    return encoded("JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")


@kind("no_end_chunk.png", OK)
def _() -> bytes:
    return encoded("PNG")[:-12]


@kind("trailing_garbage.png", OK)
def _() -> bytes:
    return encoded("PNG") + bytes(1000)


@kind("second_frame_broken.gif", OK)
def _() -> bytes:
    data = encoded("GIF", save_all=True, append_images=[picture().rotate(180)])
    return data[: len(data) - 300]


@kind("second_page_missing.tif", OK)
def _() -> bytes:
    return encoded("TIFF", save_all=True, append_images=[picture().rotate(180)])[:-4000]
