"""Samples of a label picture: one integer or one colour per pixel, as the file stores them.

A photograph is scaled to 8 bits and blended over white. A label picture is neither: its samples are class ids, palette
numbers or colours, and each has to arrive unchanged.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fss.core.arrays import Int32, Rgb, UInt8
from fss.images.color_modes import apply_orientation, exif_orientation, to_rgb
from fss.images.decode import load_image
from fss.images.decode_errors import DecodeError, explain_error
from fss.images.limits import DecodeLimits

_LOSSY_GREY = 3  # largest difference of the channels of a grey pixel in a lossy file
_SUBFILE, _BITS_PER_SAMPLE, _PHOTOMETRIC = 254, 258, 262  # tags of TIFF 6.0, pages 36, 29 and 37
_REDUCED, _WHITE_IS_ZERO = 1, 0  # their values for an overview of another page, and for inverted grey


@dataclass(frozen=True, kw_only=True)
class LabelPicture:
    """A decoded label picture, upright according to its own EXIF orientation."""

    values: NDArray[Any] | None = None
    """One integer per pixel, [H, W]: grey samples or palette numbers; None for colours."""
    rgb: Rgb | None = None
    """One colour per pixel, uint8 [H, W, 3]; None for grey samples and palette numbers."""
    palette: UInt8 | None = None
    """Colours of the palette, uint8 [256, 3]; None without a palette."""
    alpha: UInt8 | None = None
    """Opacity, uint8 [H, W]; None if it is the same everywhere and not 0."""
    full: int = 255
    """Largest sample that the bit depth allows."""
    lossy: bool = False
    """Whether the format changes values, as JPEG does."""
    orientation: int = 1
    """EXIF orientation of the file, which has been applied."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        pixels = self.values if self.values is not None else self.rgb
        assert pixels is not None
        return pixels.shape[0], pixels.shape[1]

    @cached_property
    def colors(self) -> Rgb:
        """Colour of every pixel, uint8 [H, W, 3]."""
        if self.rgb is not None:
            return self.rgb
        assert self.values is not None
        if self.palette is not None:
            return np.asarray(self.palette[self.values], np.uint8)
        return np.repeat(self.values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    @cached_property
    def packed_colors(self) -> Int32:
        """Colour of every pixel, int32 [H, W], as 0xRRGGBB."""
        wide = self.colors.astype(np.int32)
        return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], np.int32)


def pack_color(color: tuple[int, int, int]) -> int:
    """Return red, green and blue as 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack_color(packed: int) -> tuple[int, int, int]:
    """Return red, green and blue of 0xRRGGBB."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def decode_label_picture(data: bytes, limits: DecodeLimits | None = None) -> LabelPicture:
    """Decode the samples of a label picture.

    Raises:
        DecodeError: the picture cannot be decoded, its samples are no integers or would not arrive unchanged, or it has
            several frames or pages, each of which could be the mask.
    """
    image, orientation = load_image(data, limits or DecodeLimits())
    try:
        bits = _bits(image, data)
        _check_samples(image, bits)
        picture = _upright(_samples(image, bits, _is_lossy(image, data)), orientation)
        _check_frames(image)
    except Exception as error:
        raise explain_error(error) from error
    return picture


def label_picture_of_image(image: Image.Image) -> LabelPicture:
    """Return the samples of a PIL image.

    Raises:
        DecodeError: its samples are no integers.
    """
    return _upright(_samples(image, 1 if image.mode == "1" else 8, lossy=False), exif_orientation(image))


def _check_samples(image: Image.Image, bits: int) -> None:
    """Refuse samples that Pillow changes on loading."""
    if bits > 8 and not image.mode.startswith(("I", "F")):
        raise DecodeError(
            "unsupported",
            f"a colour has {bits} bits per channel, of which 8 would be lost; save class ids as grey PNG, and colours "
            "with 8 bits per channel",
        )
    if (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and bits > 1
        and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    ):
        raise DecodeError("ambiguous", "in this TIFF 0 is white, and programs invert its values or not; save it as PNG")


def _check_frames(image: Image.Image) -> None:
    """Refuse an animation and a stack of pages; overviews of the first page, as GeoTIFFs have them, are none."""
    try:
        image.seek(1)
    except EOFError:
        return
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_SUBFILE, 0) & _REDUCED:
        return
    raise DecodeError(
        "several-frames", "it has several frames or pages, and only one can be the mask; save each as a PNG of its own"
    )


def _samples(image: Image.Image, bits: int, lossy: bool) -> LabelPicture:
    mode, pixels = image.mode, np.asarray(image)
    picture = LabelPicture(lossy=lossy)
    if mode == "1":
        return replace(picture, values=pixels.astype(np.uint8), full=1)
    if mode in ("P", "PA"):
        alpha = _palette_alpha(image, pixels) if mode == "P" else pixels[..., 1]
        values = pixels if mode == "P" else pixels[..., 0]
        if image.format == "GIF":  # its writers renumber the palette, so only the colours last
            return _grey_or_colors(_palette(image)[values], replace(picture, alpha=_varying(alpha)))
        return replace(picture, values=values, palette=_palette(image), alpha=_varying(alpha))
    if mode == "L":
        full = (1 << min(bits, 8)) - 1
        return replace(picture, values=pixels // (255 // full), full=full)  # Pillow spreads 1, 2 and 4 bits over 8
    if mode in ("LA", "La"):
        return replace(picture, values=pixels[..., 0], alpha=_varying(pixels[..., 1]))
    if mode.startswith("I"):
        return replace(picture, values=pixels.astype(np.int32), full=65535)
    if mode == "F":
        if not (np.isfinite(pixels).all() and (pixels == np.rint(pixels)).all() and (abs(pixels) < 2**31).all()):
            raise DecodeError("unsupported", "a mask has integer values, but this image has fractions")
        return replace(picture, values=pixels.astype(np.int32), full=65535)
    if mode == "RGBA":
        return _grey_or_colors(pixels[..., :3], replace(picture, alpha=_varying(pixels[..., 3])))
    return _grey_or_colors(pixels if mode == "RGB" else to_rgb(image), picture)


def _grey_or_colors(rgb: NDArray[Any], picture: LabelPicture) -> LabelPicture:
    """Return the picture with one value per pixel if all colours are grey, else with the colours."""
    green = rgb[..., 1]
    if picture.lossy:
        wide = rgb.astype(np.int16)
        grey = int((wide.max(2) - wide.min(2)).max()) <= _LOSSY_GREY
    else:
        grey = bool((rgb[..., 0] == green).all() and (rgb[..., 2] == green).all())
    return replace(picture, values=green) if grey else replace(picture, rgb=np.ascontiguousarray(rgb))


def _palette(image: Image.Image) -> UInt8:
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    table = np.zeros((256, 3), np.uint8)
    table[: len(stored)] = stored
    return table


def _palette_alpha(image: Image.Image, pixels: NDArray[Any]) -> UInt8:
    """Return the opacity of every pixel, uint8 [H, W], from the transparent entries of a palette."""
    transparency = image.info.get("transparency")
    table = np.full(256, 255, np.uint8)
    if isinstance(transparency, bytes):
        table[: len(transparency)] = np.frombuffer(transparency, np.uint8)[:256]
    elif isinstance(transparency, int):
        table[transparency] = 0
    return np.asarray(table[pixels], np.uint8)


def _varying(alpha: NDArray[Any]) -> UInt8 | None:
    lowest = int(alpha.min())
    return None if lowest == int(alpha.max()) and lowest > 0 else np.asarray(alpha, np.uint8)


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    """Return whether the format may have changed values; WebP has a lossless form, ``VP8L``."""
    return image.format in ("JPEG", "AVIF", "HEIF") or (image.format == "WEBP" and b"VP8 " in data[12:4096])


def _bits(image: Image.Image, data: bytes) -> int:
    """Return the number of bits of a sample."""
    if image.format == "PNG":
        return data[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0])
    return 8


def _upright(picture: LabelPicture, orientation: int) -> LabelPicture:
    if orientation == 1:
        return picture

    def turn(pixels: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if pixels is None else np.ascontiguousarray(apply_orientation(pixels, orientation))

    return replace(
        picture,
        values=turn(picture.values),
        rgb=turn(picture.rgb),
        alpha=turn(picture.alpha),
        orientation=orientation,
    )
