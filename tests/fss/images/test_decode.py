import struct
import sys
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, ImageOps

from fss.images.decode import decode_image, image_orientation, inspect_image, resize_long_side
from fss.images.decode_errors import DecodeError, explain_error
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import OK, BadFile, bad_files, encoded, picture, png

RGB = np.asarray(picture())
GREY = np.asarray(picture().convert("L"))


def grey3(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def smooth() -> Image.Image:
    """A picture that lossy formats keep nearly as it is."""
    y, x = np.mgrid[:40, :48]
    return Image.fromarray(np.stack([x * 4, y * 5, 255 - x * 4], axis=-1).astype(np.uint8))


LOSSLESS = {
    "png": encoded("PNG"),
    "png-by-hand": png(48, 40, b"".join(b"\0" + row.tobytes() for row in RGB), colour=2),
    "webp": encoded("WEBP", lossless=True),
    "tiff": encoded("TIFF"),
    "tiff-lzw": encoded("TIFF", compression="tiff_lzw"),
    "tiff-deflate": encoded("TIFF", compression="tiff_adobe_deflate"),
    "tiff-big": encoded("TIFF", big_tiff=True),
    "bmp": encoded("BMP"),
    "tiff-pages": encoded("TIFF", save_all=True, append_images=[picture().rotate(180)]),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_forms_give_the_very_pixels(name: str) -> None:
    rgb = decode_image(LOSSLESS[name])
    np.testing.assert_array_equal(rgb, RGB)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        encoded("JPEG", smooth(), quality=95, subsampling=0),
        encoded("JPEG", smooth(), quality=95, progressive=True),
        encoded("WEBP", smooth(), quality=98),
        encoded("TIFF", smooth(), compression="jpeg", quality=95),
        encoded("WEBP", smooth(), save_all=True, append_images=[picture()], quality=98),
        encoded("AVIF", smooth(), quality=95),
        encoded("AVIF", smooth(), quality=95).replace(b"ftypavif", b"ftypmif1", 1),
    ],
    ids=["jpeg", "progressive", "webp", "tiff-jpeg", "animated-webp", "avif", "avif-by-second-brand"],
)
def test_lossy_forms_give_nearly_the_pixels(data: bytes) -> None:
    assert np.abs(decode_image(data).astype(int) - np.asarray(smooth())).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF"])
def test_grey(form: str) -> None:
    flat = Image.fromarray(np.full((40, 48), 77, np.uint8))
    rgb = decode_image(encoded(form, flat))
    assert np.abs(rgb.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF"])
def test_palette(form: str) -> None:
    palette = picture().quantize(16)
    np.testing.assert_array_equal(decode_image(encoded(form, palette)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit(form: str) -> None:
    bits = picture().convert("L").point(lambda value: 255 * (value > 100), mode="1")
    np.testing.assert_array_equal(decode_image(encoded(form, bits)), grey3(np.asarray(bits).astype(np.uint8) * 255))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_lie_over_white(form: str) -> None:
    alpha = np.zeros((40, 48), np.uint8)
    alpha[:, 16:32], alpha[:, 32:] = 128, 255
    rgba = Image.fromarray(np.dstack([RGB, alpha]))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    rgb = decode_image(encoded(form, rgba, **options)).astype(int)
    assert (rgb[:, :16] == 255).all()
    np.testing.assert_allclose(rgb[:, 16:32], RGB[:, 16:32] * (128 / 255) + 255 * (127 / 255), atol=1.5)
    np.testing.assert_array_equal(rgb[:, 32:], RGB[:, 32:])


def test_grey_with_alpha() -> None:
    alpha = np.where(np.arange(48) < 24, 0, 255).astype(np.uint8) * np.ones((40, 1), np.uint8)
    rgb = decode_image(encoded("PNG", Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])))
    assert (rgb[:, :24] == 255).all()
    np.testing.assert_array_equal(rgb[:, 24:], grey3(GREY[:, 24:]))


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_entry(form: str) -> None:
    palette = Image.fromarray((np.arange(48) >= 24).astype(np.uint8) * np.ones((40, 1), np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    rgb = decode_image(encoded(form, palette, transparency=0))
    assert (rgb[:, :24] == 255).all()
    assert (rgb[:, 24:] == [40, 50, 60]).all()


def test_transparent_colour_without_alpha() -> None:
    flat = Image.fromarray(np.full((40, 48, 3), 9, np.uint8))
    assert (decode_image(encoded("PNG", flat, transparency=(9, 9, 9))) == 255).all()
    assert (decode_image(encoded("PNG", flat.convert("L"), transparency=9)) == 255).all()


def cmyk(cyan: int, magenta: int, yellow: int, black: int) -> Image.Image:
    return Image.new("CMYK", (48, 40), (cyan, magenta, yellow, black))


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("ink", "colour"),
    [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 0, 0), (0, 255, 255))],
)
def test_cmyk(form: str, ink: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    # A CMYK JPEG holds inverted ink, as Adobe writes it; a TIFF holds plain ink.
    data = encoded(form, cmyk(*ink))
    assert form != "JPEG" or b"Adobe" in data
    assert np.abs(decode_image(data).astype(int) - colour).max() <= 2


def test_sixteen_bit_grey_is_scaled_by_its_depth() -> None:
    values = np.linspace(0, 65535, 40 * 48).reshape(40, 48).astype(np.uint16)
    expected = grey3(np.rint(values / 257).astype(np.uint8))
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode_image(encoded(form, Image.fromarray(values))), expected)


def test_big_endian_sixteen_bit_tiff() -> None:
    values = np.full((40, 48), 0x8000, ">u2")
    tags = [(256, 48), (257, 40), (258, 16), (259, 1), (262, 1), (273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, 40)]
    tags.append((279, values.nbytes))
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"MM\x00*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4) + values.tobytes()
    assert (decode_image(data) == 128).all()


def test_twelve_bit_tiff() -> None:
    packed = b"\xff\xff\xff" + b"\x80\x08\x00" * (40 * 48 // 2 - 1)  # pairs of 12-bit values: 4095 4095, 2048 2048
    tags = [(256, 48), (257, 40), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, 40)]
    tags.append((279, len(packed)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    rgb = decode_image(b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed)
    assert (rgb[0, :2] == 255).all()
    assert (rgb[1:] == 128).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_grey_is_scaled_by_its_range(dtype: type) -> None:
    ramp = np.linspace(-5000, 90000, 48).astype(dtype) * np.ones((40, 1), dtype)
    rgb = decode_image(encoded("TIFF", Image.fromarray(ramp)))
    assert rgb.min() == 0
    assert rgb.max() == 255
    assert (np.diff(rgb[0, :, 0].astype(int)) >= 0).all()


def test_float_tiff_of_unit_range_and_with_gaps() -> None:
    values = np.full((40, 48), 0.5, np.float32)
    assert (decode_image(encoded("TIFF", Image.fromarray(values))) == 128).all()
    values[0, 0] = np.nan
    assert decode_image(encoded("TIFF", Image.fromarray(values)))[0, 0].tolist() == [0, 0, 0]


def test_sixteen_bit_colour_png() -> None:
    wide = (RGB.astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    np.testing.assert_array_equal(decode_image(png(48, 40, rows, depth=16, colour=2)), RGB)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (48, 40), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "PNG", "AVIF"):
        data = encoded(form, frames[0], save_all=True, append_images=frames[1:])
        assert np.abs(decode_image(data).astype(int) - [255, 0, 0]).max() <= 3, form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form: str, orientation: int) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = np.full((40, 48, 3), 255, np.uint8)
    corner[:16, :16], corner[:16, 32:] = (255, 0, 0), (0, 0, 255)
    options = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 95, "subsampling": 0},
        "AVIF": {"quality": 95, "subsampling": "4:4:4"},
        "HEIF": {"quality": 95, "chroma": 444},
    }.get(form, {})
    data = encoded(form, Image.fromarray(corner), exif=exif.tobytes() if form == "HEIF" else exif, **options)
    upright = Image.fromarray(corner)
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    rgb = decode_image(data)
    assert rgb.shape == expected.shape
    assert form in ("AVIF", "HEIF") or image_orientation(data) == orientation
    assert np.abs(rgb.astype(int) - expected).max() <= (20 if form in ("JPEG", "AVIF", "HEIF") else 0)
    assert inspect_image(data) == (*expected.shape[:2], form)


@pytest.mark.parametrize("bad", bad_files(), ids=lambda bad: bad.name)
def test_bad_files(bad: BadFile) -> None:
    try:
        found = OK if decode_image(bad.data).ndim == 3 else "?"
    except DecodeError as error:
        found = error.reason
        assert str(error).startswith(f"{found}: ")
    assert found == bad.expected


@pytest.mark.parametrize("bad", bad_files(), ids=lambda bad: bad.name)
def test_inspection_agrees_with_decoding(bad: BadFile) -> None:
    if bad.expected == OK:
        height, width, _ = inspect_image(bad.data)
        assert (height, width) == decode_image(bad.data).shape[:2]
    else:
        with pytest.raises(DecodeError) as caught:
            inspect_image(bad.data)
        assert caught.value.reason == bad.expected


@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"]), st.integers(0, 5000), st.binary(max_size=30)
)
def test_any_damage_is_a_decode_error_or_a_picture(form: str, place: int, damage: bytes) -> None:
    data = encoded(form)
    place %= len(data)
    damaged = data[:place] + damage + data[place + len(damage) :]
    try:
        rgb = decode_image(damaged, DecodeLimits(max_pixels=1_000_000))
    except DecodeError:
        return
    assert rgb.dtype == np.uint8
    assert rgb.shape[2] == 3
    assert inspect_image(damaged, DecodeLimits(max_pixels=1_000_000))[:2] == rgb.shape[:2]


@given(
    st.sampled_from(
        [
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"RIFF0000WEBP",
            b"II*\0",
            b"BM",
            b"\0\0\0\x14ftypavif",
            b"\0\0\0\x14ftypheic",
            b"",
        ]
    ),
    st.binary(),
)
def test_any_bytes_are_a_decode_error(magic: bytes, rest: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_image(magic + rest)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("image file is truncated (0 bytes not processed)"), "truncated: the file ends before its pixels do"),
        (OSError("Truncated File Read"), "truncated: the file ends before its pixels do"),
        (OSError("broken data stream when reading image file"), "corrupt: its pixels are damaged"),
        (SyntaxError("not identified by this driver"), "corrupt: its header is damaged"),
        (OSError("Unsupported BMP pixel depth (7)"), "unsupported: it uses a part of its format that cannot be read"),
        (KeyError("I;16Z"), "unsupported: it uses a part of its format that cannot be read"),
        (MemoryError(), "too-many-pixels: there is not enough memory"),
        (IndexError("index out of range"), "corrupt: the file is damaged; its decoder says: index out of range"),
    ],
)
def test_the_text_says_what_is_wrong_with_the_file(error: Exception, text: str) -> None:
    assert str(explain_error(error)).startswith(text)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DecodeLimits(max_bytes=100), "too-many-bytes"),
        (DecodeLimits(max_pixels=48 * 40 - 1), "too-many-pixels"),
        (DecodeLimits(max_side=47), "side-too-long"),
        (DecodeLimits(min_side=41), "side-too-short"),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_limits(form: str, limits: DecodeLimits, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_image(encoded(form), limits)
    assert caught.value.reason == reason
    (setting,) = [name for name, value in limits.as_dict().items() if value != DecodeLimits().as_dict()[name]]
    assert f"limits.{setting} (--limits.{setting.replace('_', '-')} of the ingest)" in str(caught.value)


def test_the_container_alone_turns_an_avif() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/>'
    assert decode_image(encoded("AVIF", xmp=xmp + b"</x:xmpmeta>")).shape == (40, 48, 3)


def test_a_format_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DecodeError, match=r"unsupported: .*pip install 'fss-masks\[heic\]'"):
        decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500))
    data = encoded("AVIF")
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(DecodeError, match=r"unsupported: .*pip install"):
        decode_image(data)


def test_pictures_at_the_limits_pass() -> None:
    data = encoded("PNG")
    limits = DecodeLimits(max_bytes=len(data), max_pixels=48 * 40, max_side=48, min_side=40)
    assert decode_image(data, limits).shape == (40, 48, 3)


def test_interlaced_png_of_every_small_size() -> None:
    # Pillow cannot write interlaced files, so the seven passes are made by hand (RFC 2083, section 2.6).
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for height in (16, 17, 21):
        values = np.arange(height * 19, dtype=np.uint8).reshape(height, 19)
        passes = [values[y::dy, x::dx] for x, y, dx, dy in steps]
        rows = b"".join(b"\0" + row.tobytes() for one in passes for row in one)
        data = bytearray(png(19, height, rows))
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        np.testing.assert_array_equal(decode_image(bytes(data)), grey3(values))


def test_resize_shrinks_and_never_enlarges() -> None:
    big = np.zeros((300, 800, 3), np.uint8)
    assert resize_long_side(big, 400).shape == (150, 400, 3)
    assert resize_long_side(big, 800) is big
    assert resize_long_side(np.zeros((1, 900, 3), np.uint8), 400).shape == (1, 400, 3)
    checker = (np.indices((4, 4)).sum(0) % 2 * 200).astype(np.uint8)
    assert (resize_long_side(grey3(checker), 2) == 100).all()
    with pytest.raises(ValueError, match="at least 1"):
        resize_long_side(big, 0)


def test_threads_decode_the_same() -> None:
    good = [encoded(form, smooth()) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")]
    expected = [decode_image(data) for data in good]
    bad = [one.data for one in bad_files() if one.expected != OK and len(one.data) < 10_000]
    failures: list[str] = []

    def work() -> None:
        for _ in range(10):
            for data, pixels in zip(good, expected, strict=True):
                if not np.array_equal(decode_image(data), pixels):
                    failures.append("pixels differ")
            for data in bad:
                try:
                    decode_image(data)
                except DecodeError:
                    continue
                failures.append("accepted")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
