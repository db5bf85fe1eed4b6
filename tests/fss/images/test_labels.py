"""Label pictures by format and meaning: the mask, or the reason why there is none."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fss.images.decode_errors import DecodeError
from fss.images.labels import Binary, ColorTable, Index, read_labels
from tests.helpers.bad_files.formats import encoded, png, with_tiff_tag

SHAPE = (48, 64)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
DISC = ((X - 20) ** 2 + (Y - 20) ** 2 <= 81).astype(np.uint8)
RING = (((X - 20) ** 2 + (Y - 20) ** 2 <= 144) & (DISC == 0)).astype(np.uint8)
CORE = ((X - 20) ** 2 + (Y - 20) ** 2 <= 16).astype(np.uint8)
OTHER = (X > 44).astype(np.uint8)
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
FULL = Image.fromarray(DISC * 255)
RED = Image.fromarray(DISC[..., None] * np.array([255, 0, 0], np.uint8))
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0, 0, 0] * 251 + [224, 224, 192]


def low_bits(values: np.ndarray, bits: int) -> bytes:
    """Return a grey PNG of 1, 2 or 4 bits whose samples are the values."""
    per_byte = 8 // bits
    shifts = np.array([8 - bits * (position + 1) for position in range(per_byte)])
    packed = (values.reshape(len(values), -1, per_byte).astype(int) << shifts).sum(2).astype(np.uint8)
    return png(values.shape[1], len(values), b"".join(b"\0" + row.tobytes() for row in packed), depth=bits)


def palette(values: np.ndarray, colors: list[int], **options: object) -> bytes:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(colors)
    return encoded("PNG", image, **options)


def bmp(values: np.ndarray, bits: int, levels: list[int], tint: int = 1) -> bytes:
    """Return a BMP of 4 or 8 bits whose palette has these levels of grey, or of red."""
    packed = values.astype(np.uint8) if bits == 8 else (values[:, ::2] << 4 | values[:, 1::2]).astype(np.uint8)
    colors = b"".join(bytes([level * tint, level * tint, level, 0]) for level in levels)
    height, width = values.shape
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, packed.size, 0, 0, len(levels), 0)
    start = struct.pack("<2sIII", b"BM", 54 + len(colors) + packed.size, 0, 54 + len(colors))
    return start + header + colors + packed[::-1].tobytes()


def rgba(color: int | np.ndarray, alpha: np.ndarray) -> bytes:
    rgb = np.broadcast_to(np.asarray(color, np.uint8), (*SHAPE, 3))
    return encoded("PNG", Image.fromarray(np.dstack([rgb, alpha.astype(np.uint8)])))


def deep(values: np.ndarray, color: int) -> bytes:
    """Return a PNG of 16 bits and the given colour type whose channels all hold the values."""
    channels = {2: 3, 4: 2, 6: 4}[color]
    wide = np.repeat(values.astype(">u2")[..., None], channels, 2)
    return png(values.shape[1], len(values), b"".join(b"\0" + row.tobytes() for row in wide), depth=16, colour=color)


def pages(form: str, **options: object) -> bytes:
    """Return a file of two pages or frames, which show the disc and its ring."""
    return encoded(form, FULL, save_all=True, append_images=[Image.fromarray(RING * 255)], **options)


def grey(values: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    return encoded(form, Image.fromarray(values.astype(np.uint8)), **options)


def smooth(values: np.ndarray, method: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    image = Image.fromarray(values.astype(np.uint8))
    return np.asarray(image.resize((32, 24), method).resize((64, 48), method))


def jpeg_values(values: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(grey(values, "JPEG"))))


DISC_FILES: dict[str, Callable[[], bytes]] = {
    "grey 0/255": lambda: encoded("PNG", FULL),
    "grey 0/1": lambda: grey(DISC),
    "grey 0/200": lambda: grey(DISC * 200),
    "grey 3/250": lambda: grey(DISC * 247 + 3),
    "grey 130/250": lambda: grey(DISC * 120 + 130),
    "grey 0/127": lambda: grey(DISC * 127),
    "one stray 1": lambda: grey(np.where((X == 60) & (Y == 5), 1, DISC * 255)),
    "RGB": lambda: encoded("PNG", FULL.convert("RGB")),
    "RGB, red object": lambda: encoded("PNG", RED),
    "RGBA, opaque": lambda: encoded("PNG", FULL.convert("RGBA")),
    "quantized, white first": lambda: encoded("PNG", FULL.convert("RGB").quantize(2)),
    "quantized, red object": lambda: encoded("PNG", RED.quantize(2)),
    "adaptive palette": lambda: encoded("PNG", FULL.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)),
    "VOC's palette": lambda: palette(DISC, VOC),
    "palette without colours": lambda: palette(DISC, [0] * 768),
    "palette, transparent background": lambda: palette(DISC, [0, 0, 0, 255, 0, 0], transparency=0),
    "GIF": lambda: encoded("GIF", FULL.convert("RGB")),
    "BMP": lambda: encoded("BMP", FULL),
    "BMP of 8 bits, black and white palette": lambda: bmp(DISC, 8, [0, 255]),
    "BMP of 8 bits, two reds": lambda: bmp(DISC, 8, [0, 255], tint=0),
    "BMP of 4 bits, black and white palette": lambda: bmp(DISC, 4, [0, 255]),
    "BMP of 4 bits, ramp": lambda: bmp(DISC * 15, 4, list(range(0, 256, 17))),
    "BMP of 1 bit": lambda: encoded("BMP", FULL.convert("1")),
    "lossless WebP": lambda: encoded("WEBP", FULL.convert("RGB"), lossless=True),
    "TIFF": lambda: encoded("TIFF", FULL),
    "TIFF of 1 bit": lambda: encoded("TIFF", FULL.convert("1")),
    "TIFF of floats": lambda: encoded("TIFF", Image.fromarray(DISC.astype(np.float32))),
    "16 bits, 0/65535": lambda: encoded("PNG", Image.fromarray(DISC.astype(np.uint16) * 65535)),
    "16 bits, 0/255": lambda: encoded("PNG", Image.fromarray(DISC.astype(np.uint16) * 255)),
    "1 bit": lambda: low_bits(DISC, 1),
    "2 bits": lambda: low_bits(DISC * 3, 2),
    "4 bits": lambda: low_bits(DISC * 15, 4),
    "alpha over black": lambda: rgba(0, DISC * 255),
    "alpha over white": lambda: rgba(255, DISC * 255),
    "alpha and grey agree": lambda: rgba((DISC * 255)[..., None], DISC * 255),
    "alpha of one third over red": lambda: rgba([255, 0, 0], DISC * 76),
    "cut-out": lambda: rgba(PHOTOGRAPH, DISC * 255),
    "grey with alpha": lambda: encoded("PNG", Image.merge("LA", [Image.new("L", FULL.size), FULL])),
    "object 1 with an ignored ring": lambda: grey(DISC + RING * 255),
    "object 255 with unsure pixels": lambda: grey(DISC * 255 + RING * 128),
    "VOC's palette with an ignored ring": lambda: palette(DISC + RING * 255, VOC),
}


@pytest.mark.parametrize("name", DISC_FILES)
def test_the_object_of_a_binary_mask_is_read(name: str) -> None:
    label = read_labels(DISC_FILES[name](), Binary(class_id=7))
    assert label.class_ids == (7,)
    np.testing.assert_array_equal(label.mask == 1, DISC == 1)
    np.testing.assert_array_equal(label.mask == 255, RING if "ring" in name or "unsure" in name else RING * 0)


def test_an_object_may_fill_a_picture_but_for_ignored_lines() -> None:
    label = read_labels(grey(np.where(X % 9 == 0, 255, 1)), Binary())
    np.testing.assert_array_equal(label.mask, np.where(X % 9 == 0, 255, 1))


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_lossy_binary_mask_keeps_its_object(form: str) -> None:
    label = read_labels(encoded(form, FULL.convert("RGB"), quality=80), Binary())
    assert ((label.mask == 1) != (DISC == 1)).mean() < 0.01
    smoothed = read_labels(grey(smooth(DISC * 255)), Binary())
    half = read_labels(encoded(form, Image.fromarray(DISC * 127), quality=80), Binary())
    assert ((half.mask == 1) != (DISC == 1)).mean() < 0.01
    assert ((smoothed.mask == 1) != (DISC == 1)).mean() < 0.02


REFUSED_BINARY: dict[str, tuple[Callable[[], bytes], str]] = {
    "one class id": (lambda: grey(DISC * 44), "class-ids: the only value besides 0 is 44; give --source.masks index"),
    "class ids": (lambda: grey(DISC + OTHER * 2), "class-ids: the values are 0, 1, 2"),
    "class ids and void": (lambda: grey(DISC + OTHER * 2 + RING * 255), "class-ids: the values are 0, 1, 2, 255"),
    "1 apart from 255": (lambda: grey(np.where((X > 58) & (Y > 40), 1, DISC * 255)), "ambiguous: the values are 0, 1"),
    "1 around 255, no 0": (lambda: grey(DISC * 254 + 1), "ambiguous: the values are 1, 255, and either"),
    "128 apart from 255": (lambda: grey(DISC * 255 + OTHER * 128), "class-ids: .*binary if 255 is the object"),
    "128 around less of 255": (lambda: grey(DISC * 128 + CORE * 127), "class-ids: the values are 0, 128, 255"),
    "three greys": (lambda: grey(DISC * 100 + OTHER * 255), "class-ids"),
    "two colours, no black": (lambda: palette(DISC, [9, 99, 9, 200, 0, 0]), "not-binary: the colours"),
    "classes of VOC": (lambda: palette(DISC + OTHER * 2, VOC), "not-binary: the colours"),
    "a photograph": (lambda: encoded("PNG", Image.fromarray(PHOTOGRAPH)), "not-binary: it has"),
    "a grey photograph": (lambda: grey(PHOTOGRAPH[..., 0]), "not-binary: .* of the pixels are of a middle grey"),
    "alpha against grey": (lambda: rgba((DISC * 255)[..., None], OTHER * 255), "ambiguous"),
    "a transparent photograph": (lambda: rgba(PHOTOGRAPH, OTHER * 0), "transparent"),
    "fractions": (lambda: encoded("TIFF", Image.fromarray(DISC.astype(np.float32) / 3)), "unsupported"),
    "no picture": (lambda: b"<html>", "unknown-format"),
    "two frames": (lambda: pages("GIF"), "several-frames: .* only one can be the mask; save each as a PNG"),
    "two pages": (lambda: pages("TIFF"), "several-frames"),
    "an animated PNG": (lambda: pages("PNG"), "several-frames"),
    "colours of 16 bits": (lambda: deep(DISC * 255, 2), "unsupported: a colour has 16 bits per channel, of which 8"),
}


@pytest.mark.parametrize("name", REFUSED_BINARY)
def test_what_is_no_binary_mask_is_refused(name: str) -> None:
    make, reason = REFUSED_BINARY[name]
    with pytest.raises(DecodeError, match=reason):
        read_labels(make(), Binary())


def test_a_single_value_marks_the_object_where_masks_are_declared_binary() -> None:
    np.testing.assert_array_equal(read_labels(grey(DISC * 44), Binary(any_value=True)).mask, DISC)
    with pytest.raises(DecodeError, match="class-ids"):
        read_labels(grey(DISC + OTHER * 2), Binary(any_value=True))
    unsure = read_labels(grey(DISC * 255 + OTHER * 128), Binary(any_value=True))
    np.testing.assert_array_equal(unsure.mask, DISC + OTHER * 255)


@pytest.mark.parametrize("color", [0, 255])
def test_a_transparent_picture_has_no_object(color: int) -> None:
    label = read_labels(rgba(color, OTHER * 0), Binary())
    assert not label.mask.any() and label.class_ids == ()


LABELS = DISC + OTHER * 3  # class ids 1 and 3
INDEX_FILES: dict[str, Callable[[], bytes]] = {
    "8 bits": lambda: grey(LABELS),
    "8 bits, RGB": lambda: encoded("PNG", Image.fromarray(np.dstack([LABELS] * 3))),
    "8 bits, RGBA": lambda: rgba(LABELS[..., None], OTHER * 0 + 255),
    "16 bits": lambda: encoded("PNG", Image.fromarray(LABELS.astype(np.uint16))),
    "32 bits": lambda: encoded("TIFF", Image.fromarray(LABELS.astype(np.int32))),
    "floats": lambda: encoded("TIFF", Image.fromarray(LABELS.astype(np.float32))),
    "2 bits": lambda: low_bits(LABELS, 2),
    "4 bits": lambda: low_bits(LABELS, 4),
    "palette": lambda: palette(LABELS, VOC),
    "palette of 2 bits": lambda: palette(LABELS, VOC[:12], bits=2),
    "palette in reverse": lambda: palette(LABELS, [255, 255, 255, 9, 9, 9, 0, 0, 0, 1, 1, 1]),
    "palette, transparent background": lambda: palette(LABELS, VOC, transparency=0),
    "GIF of grey values": lambda: grey(LABELS, "GIF"),
    "BMP": lambda: grey(LABELS, "BMP"),
    "BMP of 4 bits, ramp": lambda: bmp(LABELS, 4, list(range(16))),
    "lossless WebP": lambda: encoded("WEBP", Image.fromarray(np.dstack([LABELS] * 3)), lossless=True),
}


@pytest.mark.parametrize("name", INDEX_FILES)
def test_class_ids_are_read_as_they_are(name: str) -> None:
    label = read_labels(INDEX_FILES[name](), Index())
    assert label.class_ids == (1, 3)
    np.testing.assert_array_equal(np.array([0, 1, 3])[label.mask], LABELS)


def test_class_ids_of_one_bit() -> None:
    for data in (low_bits(DISC, 1), encoded("PNG", Image.fromarray(DISC > 0)), encoded("TIFF", FULL.convert("1"))):
        label = read_labels(data, Index())
        assert label.class_ids == (1,)
        np.testing.assert_array_equal(label.mask, DISC)
    wide = read_labels(encoded("PNG", Image.fromarray(LABELS.astype(np.uint16) * 1000)), Index())
    assert wide.class_ids == (1000, 3000)


def test_minus_one_is_ignored_where_it_is_declared_so() -> None:
    data = encoded("TIFF", Image.fromarray(LABELS.astype(np.int32) - RING))
    label = read_labels(data, Index(void=(-1, 255)))
    assert label.class_ids == (1, 3)
    np.testing.assert_array_equal(
        np.where(label.mask == 255, -1, np.array([0, 1, 3] + [0] * 253)[label.mask]), LABELS.astype(int) - RING
    )
    with pytest.raises(
        DecodeError, match=r"must lie in 0..65535, got -1..3; values that mean no label .*--source.void"
    ):
        read_labels(data, Index())


def test_the_overview_of_a_mask_is_no_second_page() -> None:
    buffer, overview = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    overview[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as file:
        for image, tags in ((FULL, {}), (FULL.reduce(2), overview)):
            image.save(file, "TIFF", tiffinfo=tags)
            file.newFrame()
    np.testing.assert_array_equal(read_labels(buffer.getvalue(), Binary()).mask, DISC)


REFUSED_INDEX: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG": (lambda: grey(LABELS, "JPEG"), "lossy: .* save the masks as PNG"),
    "lossy WebP": (lambda: encoded("WEBP", Image.fromarray(np.dstack([LABELS] * 3))), "lossy"),
    "resized smoothly": (lambda: grey(smooth(DISC * 7 + OTHER * 15)), "smoothed: the values .* nearest neighbour"),
    "resized sharply": (lambda: grey(smooth(DISC * 7 + OTHER * 15, Image.Resampling.LANCZOS)), "smoothed"),
    "a PNG of a JPEG": (lambda: grey(jpeg_values(DISC * 40 + OTHER * 90)), "smoothed: .*JPEG once"),
    "a GIF of colours": (lambda: encoded("GIF", Image.open(io.BytesIO(palette(LABELS, VOC)))), "colors: "),
    "colours": (lambda: encoded("PNG", RED), "colors: .*--source.colors FILE"),
    "0 and 255": (lambda: encoded("PNG", FULL), "all-void: .*--source.masks binary"),
    "an unnamed value": (lambda: grey(LABELS * 5), "unknown-class: the values 5, 15 stand for no class"),
    "labels under transparency": (lambda: rgba(LABELS[..., None], OTHER * 255), "transparent"),
    "a photograph": (lambda: grey(PHOTOGRAPH[..., 0]), "smoothed"),
    "ids as colours of 16 bits": (lambda: deep(LABELS, 2), "unsupported: a colour has 16 bits per channel"),
    "ids of 16 bits with opacity": (lambda: deep(LABELS, 4), "unsupported: a colour has 16 bits per channel"),
    "ids of a TIFF whose 0 is white": (
        lambda: with_tiff_tag(grey(255 - LABELS, "TIFF"), 262, 0),
        "ambiguous: in this TIFF 0 is white, and programs invert its values or not; save it as PNG",
    ),
}


UNLISTED = ("resized smoothly", "resized sharply", "a PNG of a JPEG", "a photograph")


@pytest.mark.parametrize("name", REFUSED_INDEX)
def test_what_holds_no_class_ids_is_refused(name: str) -> None:
    make, reason = REFUSED_INDEX[name]
    with pytest.raises(DecodeError, match=reason):
        read_labels(make(), Index(class_ids=frozenset(range(1, 4)) if name not in UNLISTED else None))


def street(seed: int) -> np.ndarray:
    """Paint areas of eleven classes, of which each row and column crosses several, and thin objects between them."""
    rng = np.random.default_rng(seed)
    centres, classes = rng.uniform(0, [120, 160], (50, 2)), rng.integers(0, 11, 50)
    pixels = np.stack(np.mgrid[:120, :160], -1)[..., None, :]
    values = classes[((pixels - centres) ** 2).sum(-1).argmin(-1)].astype(np.uint8)
    for column in rng.integers(0, 158, 6):
        values[40:90, column : column + 2] = rng.integers(0, 11)
    return values


@pytest.mark.parametrize("seed", range(5))
def test_smoothing_shows_where_all_values_are_classes(seed: int) -> None:
    values = street(seed)
    image = Image.fromarray(values)
    for scale in (0.3, 0.5, 1, 2):
        size = (round(160 * scale), round(120 * scale))
        resized = np.asarray(image.resize(size, Image.Resampling.NEAREST))
        label = read_labels(grey(resized), Index(background=None))
        np.testing.assert_array_equal(np.array([-1, *label.class_ids])[label.mask], resized)
    spoilt = [jpeg_values(values)]
    for method in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        spoilt += [np.asarray(image.resize(size, method)) for size in ((80, 60), (208, 156), (320, 240), (640, 480))]
    for smoothed in spoilt:
        with pytest.raises(DecodeError, match=r"smoothed: the values .* lie between others at their borders"):
            read_labels(grey(smoothed), Index(background=None))


TABLE = ColorTable(class_ids={(0, 0, 0): 0, (250, 50, 83): 4, (36, 179, 83): 9, (224, 224, 192): 255})


@pytest.mark.parametrize("form", ["PNG", "palette", "BMP", "WEBP"])
def test_colours_become_classes(form: str) -> None:
    colors = np.zeros((*SHAPE, 3), np.uint8)
    colors[DISC == 1], colors[OTHER == 1], colors[RING == 1] = (250, 50, 83), (36, 179, 83), (224, 224, 192)
    image = Image.fromarray(colors)
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded("PNG", image.quantize(8)) if form == "palette" else encoded(form, image, **options)
    label = read_labels(data, TABLE)
    assert label.class_ids == (4, 9)
    np.testing.assert_array_equal(label.mask, np.where(RING == 1, 255, DISC + OTHER * 2))


def test_colours_outside_the_table_are_refused() -> None:
    with pytest.raises(DecodeError, match=r"unknown-color: 253 pixels .*\(255, 0, 0\)"):
        read_labels(encoded("PNG", RED), TABLE)
    with pytest.raises(DecodeError, match="lossy"):
        read_labels(encoded("JPEG", RED), TABLE)


def test_transparent_pixels_are_background_of_a_colour_table_unless_they_have_a_class() -> None:
    colors = np.where(DISC[..., None] == 1, [250, 50, 83], 255)
    label = read_labels(rgba(colors, DISC * 255), TABLE)
    assert label.class_ids == (4,)
    np.testing.assert_array_equal(label.mask, DISC)
    with pytest.raises(DecodeError, match="transparent: classes lie under transparent pixels"):
        read_labels(rgba([250, 50, 83], DISC * 255), TABLE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_follows_its_own_exif(orientation: int) -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = orientation
    FULL.save(buffer, "PNG", exif=exif)
    label = read_labels(buffer.getvalue(), Binary())
    assert label.upright == (orientation != 1)
    assert label.mask.shape == (SHAPE if orientation < 5 else SHAPE[::-1])
    assert int(label.mask.sum()) == int(DISC.sum())
