"""Canvases hold the pixels of the decoder and the resizer, whatever the format."""

import io

import numpy as np
import pytest
from PIL import Image

from fss.images.canvas import decode_canvas
from fss.images.decode import DecodeError, decode_image
from fss.images.limits import Decoding
from fss.images.resize import image_canvas

RNG = np.random.default_rng(0)
PHOTOGRAPH = Image.fromarray(RNG.integers(0, 256, (12, 16, 3), np.uint8)).resize((160, 120))


def encoded(image: Image.Image, form: str, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    image.save(data, form, exif=exif)
    return data.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        encoded(PHOTOGRAPH, "JPEG"),
        encoded(PHOTOGRAPH, "JPEG", orientation=6),
        encoded(PHOTOGRAPH.convert("L"), "JPEG"),
        encoded(PHOTOGRAPH.convert("CMYK"), "JPEG"),
        encoded(PHOTOGRAPH.convert("RGBA"), "PNG"),
        encoded(PHOTOGRAPH.convert("P"), "PNG"),
        encoded(PHOTOGRAPH, "WEBP", orientation=3),
        encoded(PHOTOGRAPH.resize((48, 48)), "PNG"),
        encoded(PHOTOGRAPH.resize((900, 800)), "JPEG"),
    ],
)
def test_a_canvas_is_the_decoded_image_resized(data: bytes) -> None:
    canvas = decode_canvas(data, 48)
    assert canvas.shape == (3, 48, 48) and canvas.flags.c_contiguous
    np.testing.assert_array_equal(canvas.transpose(1, 2, 0), image_canvas(decode_image(data), 48))


@pytest.mark.parametrize(("size", "most"), [((160, 120), 3), ((900, 800), 32)])
def test_fast_decoding_is_close(size: tuple[int, int], most: int) -> None:
    data = encoded(PHOTOGRAPH.resize(size), "JPEG")
    difference = np.abs(decode_canvas(data, 48, decoding="fast").astype(int) - decode_canvas(data, 48))
    assert difference.max() <= most and difference.mean() < most / 8


@pytest.mark.parametrize(
    "data",
    [
        encoded(PHOTOGRAPH, "JPEG", orientation=6),
        encoded(PHOTOGRAPH.convert("L"), "JPEG"),
        encoded(PHOTOGRAPH.convert("RGBA"), "PNG"),
        encoded(PHOTOGRAPH, "JPEG") + b"\0",
    ],
)
def test_fast_decoding_leaves_other_images_to_the_exact_one(data: bytes) -> None:
    np.testing.assert_array_equal(decode_canvas(data, 48, decoding="fast"), decode_canvas(data, 48))


@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_damage_is_a_decode_error(decoding: Decoding) -> None:
    for data in (encoded(PHOTOGRAPH, "JPEG")[:400], encoded(PHOTOGRAPH, "JPEG")[:900]):
        with pytest.raises(DecodeError, match="truncated"):
            decode_canvas(data, 48, decoding=decoding)
