"""Safe decoding of untrusted photographs to RGB.

Sizes are checked from the header before any pixel is decoded, and every failure becomes a :class:`DecodeError` with a
short reason. The format is detected from the first bytes, never from the file name, and only eight decoders are
reachable. No global state is changed, so threads may decode concurrently.

HEIC needs the optional package pillow-heif.
"""

import io
from typing import Any

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from fss.core.arrays import Rgb
from fss.core.extras import install_command
from fss.images.color_modes import apply_orientation, exif_orientation, to_rgb
from fss.images.decode_errors import DecodeError, explain_error
from fss.images.headers import check_png, webp_size, widen_bmp_palette
from fss.images.limits import DecodeLimits

_PLUGINS: dict[str, Any] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
FORMATS = "JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF"
_POINTERS = (
    (b"version https://git-lfs", "git-lfs-pointer", "the file only points to the data; run git lfs pull"),
    (b"/annex/objects/", "git-annex-pointer", "the file only points to the data; run git annex get"),
    (b"outs:\n- md5:", "dvc-pointer", "the file only points to the data; run dvc pull"),
)
_MAX_SCANS = 1000  # a progressive JPEG has about ten; thousands of empty scans would keep the decoder busy for hours


def sniff_format(data: bytes) -> str | None:
    """Return the format that the first bytes indicate: JPEG, PNG, GIF, WEBP, TIFF, BMP, AVIF, HEIF, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _sniff_brands(data)
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None)


def _sniff_brands(data: bytes) -> str | None:
    """Return the format of an ISO base media file by the brands of its first box (ISO/IEC 14496-12, section 4.3)."""
    box = data[: min(int.from_bytes(data[:4], "big"), 1024)]
    brands = {box[8:12], *(box[offset : offset + 4] for offset in range(16, len(box), 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def pointer_error(data: bytes) -> DecodeError | None:
    """Return the reason if a file only stands for data elsewhere (git-lfs, git-annex, DVC); else None."""
    return next((DecodeError(reason, text) for start, reason, text in _POINTERS if data.startswith(start)), None)


def decode_image(data: bytes, limits: DecodeLimits | None = None) -> Rgb:
    """Decode an image to RGB, uint8 [H, W, 3], upright according to its EXIF orientation.

    Transparency is blended over white. Of an animation, the first frame is decoded. 16-bit grey is scaled by its
    declared depth, 32-bit and float grey by its range.

    Raises:
        DecodeError: the image cannot be decoded; no other exception is raised.
    """
    image, orientation = load_image(data, limits or DecodeLimits())
    try:
        rgb = to_rgb(image)
        return np.ascontiguousarray(apply_orientation(rgb, orientation))
    except Exception as error:
        raise explain_error(error) from error


def inspect_image(data: bytes, limits: DecodeLimits | None = None) -> tuple[int, int, str]:
    """Return height and width in pixels (upright) and format of an image, after decoding all of it.

    Raises:
        DecodeError: :func:`decode_image` would raise it for the same bytes.
    """
    image, orientation = load_image(data, limits or DecodeLimits())
    if image.mode not in ("RGB", "L"):  # the other modes can still fail in the conversion
        decode_image(data, limits)
    width, height = image.size
    kind = sniff_format(data)
    assert kind is not None
    return (width, height, kind) if orientation >= 5 else (height, width, kind)


def load_image(data: bytes, limits: DecodeLimits) -> tuple[Image.Image, int]:
    """Open, check and decode an image; return it as stored, with its EXIF orientation (1 to 8).

    Raises:
        DecodeError: the image cannot be decoded.
    """
    image, orientation = open_image(data, limits)
    try:
        image.load()
    except Exception as error:
        raise explain_error(error) from error
    return image, orientation


def open_image(data: bytes, limits: DecodeLimits) -> tuple[Image.Image, int]:
    """Open and check an image as :func:`load_image` does, without decoding its pixels.

    Raises:
        DecodeError: the image cannot be decoded.
    """
    if not data:
        raise DecodeError("empty", "the file has no bytes")
    if len(data) > limits.max_bytes:
        raise DecodeError("too-many-bytes", f"more than the {limits.max_bytes} bytes {_setting('max_bytes')}")
    kind = sniff_format(data)
    if kind is None:
        raise pointer_error(data) or DecodeError("unknown-format", f"not {FORMATS}; the file starts with {data[:8]!r}")
    try:
        if kind == "WEBP":  # its decoder allocates the canvas on opening
            _check_size(*webp_size(data), limits)
        elif kind == "JPEG" and data.count(b"\xff\xda") > _MAX_SCANS:
            raise DecodeError("too-many-scans", f"more than {_MAX_SCANS} scans in one JPEG")
        image = _open(data, kind)
        _check_size(*image.size, limits)
        if kind == "PNG":
            check_png(data)
        orientation = _orientation(image, kind)
    except Exception as error:
        raise explain_error(error) from error
    return image, orientation


def image_orientation(data: bytes) -> int:
    """Return the EXIF orientation (1 to 8) that :func:`decode_image` applies; 1 if the bytes cannot be opened."""
    kind = sniff_format(data)
    if kind is None:
        return 1
    try:
        image = _open(data, kind)
        return exif_orientation(image) if kind == "TIFF" else _orientation(image, kind)
    except Exception:
        return 1


def _open(data: bytes, kind: str) -> Image.Image:
    """Read the header of an image."""
    if kind == "AVIF" and not AvifImagePlugin.SUPPORTED:
        raise DecodeError(
            "unsupported", "this Pillow is built without AVIF; pip install --force-reinstall 'pillow>=13'"
        )
    decoder = _heif_decoder() if kind == "HEIF" else _PLUGINS[kind]
    image: Image.Image = decoder(io.BytesIO(widen_bmp_palette(data) if kind == "BMP" else data))
    return image


def _heif_decoder() -> Any:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DecodeError("unsupported", f"HEIC needs the package pillow-heif: {install_command('heic')}") from error
    return HeifImageFile


def _orientation(image: Image.Image, kind: str) -> int:
    """Return the EXIF orientation that the decoder leaves to apply."""
    if kind in ("TIFF", "HEIF"):  # turned by their decoders on loading
        return 1
    if kind == "AVIF":  # its plugin sets EXIF from the container, which alone counts
        image.info.pop("xmp", None)
    return exif_orientation(image)


def resize_long_side(rgb: Rgb, side: int) -> Rgb:
    """Shrink an RGB image [H, W, 3] to a long side of ``side`` pixels by area averaging; never enlarge it."""
    if side < 1:
        raise ValueError(f"side must be at least 1 pixel, got {side}")
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    size = f"{width} x {height} pixels"
    if width * height > limits.max_pixels:
        text = f"{size}, {width * height} in all, are more than the {limits.max_pixels} {_setting('max_pixels')}"
        raise DecodeError("too-many-pixels", text)
    if max(width, height) > limits.max_side:
        raise DecodeError("side-too-long", f"{size}; a side is over the {limits.max_side} {_setting('max_side')}")
    if min(width, height) < limits.min_side:
        raise DecodeError("side-too-short", f"{size}; a side is under the {limits.min_side} {_setting('min_side')}")


def _setting(name: str) -> str:
    return f"of limits.{name} (--limits.{name.replace('_', '-')} of the ingest)"
