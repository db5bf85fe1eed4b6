"""More kinds of bad files: what clouds, phones, editors, disks and attackers leave behind (see ``bad_files``)."""

import io
import struct
import zlib
from functools import partial

import numpy as np
from PIL import Image

from tests.helpers.bad_files.formats import (
    OK,
    SIZE,
    after,
    encoded,
    kind,
    picture,
    png,
    png_chunk,
    with_jpeg_size,
    with_tiff_tag,
)

ROWS = b"".join(b"\0" + bytes(range(48)) for _ in range(40))

# Other people's files under a photograph's name

FOREIGN = {
    "movie.jpg": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(600),
    "jpeg2000.jp2": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(300),
    "jpeg_xl.jpg": b"\xff\x0a" + bytes(300),
    "photoshop.tif": b"8BPS\x00\x01" + bytes(300),
    "raw.tif": b"FUJIFILMCCD-RAW " + bytes(300),
    "icon.bmp": b"\x00\x00\x01\x00\x01\x00\x10\x10" + bytes(300),
    "program.jpg": b"MZ\x90\x00\x03\x00\x00\x00\x04" + bytes(300),
    "elf.png": b"\x7fELF\x02\x01\x01" + bytes(300),
    "pickle.jpg": b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "gzip.png": b"\x1f\x8b\x08\x00" + bytes(300),
    "json.jpg": b'{"error": "AccessDenied"}',
    "xml.jpg": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    "resource_fork.jpg": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(300),
    "base64.jpg": b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQg=",
    "wave.webp": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(300),
    "bom_text.png": b"\xef\xbb\xbfsee attachment",
}
for _name, _data in FOREIGN.items():
    kind(_name, "unknown-format")(partial(bytes, _data))


POINTERS = {
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "git-annex": b"/annex/objects/SHA256E-s12345--00.jpg\n",
    "dvc": b"outs:\n- md5: d3b07384d113edec49eaa6238ad5ff00\n  size: 12345\n  path: a.jpg\n",
}
for _name, _data in POINTERS.items():
    kind(f"{_name}.jpg", f"{_name}-pointer")(partial(bytes, _data))


@kind("web.avif", "corrupt")
def _() -> bytes:
    return b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1" + bytes(300)


@kind("cut.avif", "truncated")
def _() -> bytes:
    return encoded("AVIF", picture((200, 160)))[:-500]


@kind("bomb.avif", "too-many-pixels")
def _() -> bytes:
    data = encoded("AVIF")
    size = data.index(b"ispe") + 8
    return data[:size] + struct.pack(">II", 9_000, 9_000) + data[size + 8 :]


@kind("bomb_pixels.avif", "corrupt")
def _() -> bytes:  # its header is small, and its pixels are those of a large picture
    data = encoded("AVIF", Image.new("RGB", (4000, 3000)))
    size = data.index(b"ispe") + 8
    return data[:size] + struct.pack(">II", 48, 40) + data[size + 8 :]


# Cut off or overwritten by disks and networks


@kind("zero_tail.jpg", "truncated")
def _() -> bytes:
    data = encoded("JPEG", picture((200, 160)))
    return data[: len(data) // 3] + bytes(len(data) - len(data) // 3)


@kind("zero_head.jpg", "unknown-format")
def _() -> bytes:
    return bytes(64) + encoded("JPEG")[64:]


@kind("cut_before_scan.jpg", "corrupt")
def _() -> bytes:
    data = encoded("JPEG")
    return data[: data.index(b"\xff\xda")]


@kind("cut_in_chunk.png", "truncated")
def _() -> bytes:
    data = encoded("PNG", picture((200, 160)))
    return data[: data.index(b"IDAT") + 40]


@kind("lossless_cut.webp", "truncated")
def _() -> bytes:
    data = encoded("WEBP", picture((200, 160)), lossless=True)
    return data[: len(data) * 2 // 3]


@kind("cut.lzw.tif", "corrupt")
def _() -> bytes:
    """Its directory is behind the pixels, so it has lost its size too."""
    data = encoded("TIFF", picture((200, 160)), compression="tiff_lzw")
    return data[: len(data) // 2]


@kind("newlines_translated.png", "unknown-format")
def _() -> bytes:
    return encoded("PNG").replace(b"\r\n", b"\n")


@kind("utf8_translated.jpg", "unknown-format")
def _() -> bytes:
    return encoded("JPEG").decode("latin-1").encode()


# Lies about sizes and contents


@kind("negative.bmp", "too-many-pixels")
def _() -> bytes:
    return after(encoded("BMP"), b"BM", 18, struct.pack("<ii", -48, 40))


@kind("pixels_elsewhere.bmp", "truncated")
def _() -> bytes:
    return after(encoded("BMP"), b"BM", 10, struct.pack("<I", 10**6))


@kind("huge_chunk.png", OK)
def _() -> bytes:
    """The chunk of pixels claims two gigabytes; those that are there are enough."""
    data = bytearray(encoded("PNG"))
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = struct.pack(">I", 2**31 - 1)
    return bytes(data)


@kind("no_header.png", "corrupt")
def _() -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", zlib.compress(ROWS)) + png_chunk(b"IEND", b"")


@kind("no_palette.png", OK)
def _() -> bytes:
    """Its indices are read as greys."""
    return png(48, 40, ROWS, colour=3)


@kind("strange_colour.png", "corrupt")
def _() -> bytes:
    return png(48, 40, ROWS, colour=5)


@kind("bomb_1_bit.png", "too-many-pixels")
def _() -> bytes:
    return png(40_000, 40_000, bytes(5001 * 100), depth=1)


@kind("profile_bomb.png", "corrupt")
def _() -> bytes:
    return png(48, 40, ROWS, extra=png_chunk(b"iCCP", b"icc\x00\x00" + zlib.compress(bytes(30_000_000))))


@kind("bomb_side.jpg", "side-too-long")
def _() -> bytes:
    return with_jpeg_size(encoded("JPEG"), 60_000, 16)


@kind("flat.jpg", "side-too-short")
def _() -> bytes:
    return encoded("JPEG", picture((300, 4)))


@kind("dot.gif", "side-too-short")
def _() -> bytes:
    """The tracking pixel of a web page."""
    return encoded("GIF", Image.new("L", (1, 1)))


@kind("bomb_pages.tif", "too-many-pixels")
def _() -> bytes:
    return with_tiff_tag(with_tiff_tag(encoded("TIFF"), 256, 2**31 - 1), 257, 2)


@kind("loop.tif", OK)
def _() -> bytes:
    """The first directory says that it is also the next one."""
    data = bytearray(encoded("TIFF"))
    (place,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, place)
    data[place + 2 + 12 * entries : place + 6 + 12 * entries] = struct.pack("<I", place)
    return bytes(data)


@kind("nonsense_samples.tif", "corrupt")
def _() -> bytes:
    return with_tiff_tag(encoded("TIFF"), 277, 60_000)


@kind("marker_storm.jpg", "corrupt")
def _() -> bytes:
    return b"\xff\xd8" + b"\xff\xe1\x00\x02" * 50_000


# The picture inside is good


@kind("upper_case_name.JPG", OK)
def _() -> bytes:
    return encoded("JPEG")


@kind("four_inks.jpg", OK)
def _() -> bytes:
    return encoded("JPEG", picture().convert("CMYK"))


@kind("many_comments.jpg", OK)
def _() -> bytes:
    data = encoded("JPEG")
    return data[:2] + (b"\xff\xfe\x00\x12" + b"sixteen letters.") * 200 + data[2:]


@kind("wrong_thumbnail.jpg", OK)
def _() -> bytes:
    exif = Image.Exif()
    exif[0x0201], exif[0x0202] = 10**9, 10**9
    return encoded("JPEG", exif=exif)


@kind("orientation_9.jpg", OK)
def _() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 9
    return encoded("JPEG", exif=exif)


@kind("broken_profile.png", OK)
def _() -> bytes:
    return encoded("PNG", icc_profile=b"no profile at all")


@kind("text_before_pixels.png", OK)
def _() -> bytes:
    return png(48, 40, ROWS, extra=png_chunk(b"tEXt", b"Comment\x00" + b"hello " * 500))


@kind("sixteen_bits.png", OK)
def _() -> bytes:
    return encoded("PNG", Image.fromarray((np.arange(48 * 40, dtype=np.uint16) * 30).reshape(40, 48)))


@kind("one_bit.bmp", OK)
def _() -> bytes:
    return encoded("BMP", picture().convert("1"))


@kind("two_photographs.jpg", OK)
def _() -> bytes:
    return encoded("JPEG") + encoded("JPEG", picture((64, 64)))


@kind("page_of_floats.tif", OK)
def _() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(-3, 9, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE[1], SIZE[0])).save(
        buffer, "TIFF"
    )
    return buffer.getvalue()
