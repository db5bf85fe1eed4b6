"""Damaged copies of pictures and masks, and what must hold for each of them."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from fss.images.decode import decode_image, inspect_image
from fss.images.decode_errors import DecodeError
from fss.images.labels import Binary, ColorTable, Index, LabelMask, read_labels
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import decode_mask, encode_mask
from tests.helpers.bad_files.formats import bad_files, encoded, picture

LIMITS = DecodeLimits(max_pixels=1_000_000, max_side=4000)
REASONS = {
    *("empty", "too-many-bytes", "unknown-format", "too-many-pixels", "side-too-long", "side-too-short"),
    *("too-many-scans", "truncated", "corrupt", "unsupported"),
    *("git-lfs-pointer", "git-annex-pointer", "dvc-pointer"),
}
LABEL_REASONS = {
    *("not-binary", "class-ids", "ambiguous", "several-frames", "colors", "lossy", "smoothed", "all-void"),
    *("unknown-class", "unknown-color", "transparent"),
}
MEANINGS = (
    *(Binary(), Binary(any_value=True), Index(), Index(background=None, class_ids=frozenset(range(20)))),
    ColorTable(class_ids={(0, 0, 0): 0, (255, 255, 255): 1, (128, 0, 0): 2}),
)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF)


def seeds() -> list[bytes]:
    """Small good pictures of every format and mode, and the hundred kinds of bad ones."""
    modes = [picture(), picture().convert("L"), picture().convert("P"), picture().convert("CMYK")]
    modes += [picture().convert("RGBA"), picture().convert("1"), picture().convert("I;16")]
    good = []
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"):
        for image in modes:
            try:
                good.append(encoded(form, image))
            except (OSError, KeyError, ValueError):
                continue  # the format has no such mode
    good += [encoded("JPEG", progressive=True), encoded("TIFF", compression="tiff_lzw"), encoded("PNG", interlace=1)]
    return good + [bad.data for bad in bad_files() if len(bad.data) < 5000]


def mask_seeds() -> list[bytes]:
    """Masks as they are stored."""
    rows = np.indices((30, 40)).sum(0) % 7
    return [encode_mask(rows.astype(np.uint8)), encode_mask(np.zeros((20, 20), np.uint8))]


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a file as disks, networks and attackers do, a few times over."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = len(changed)
        place = int(rng.integers(0, size + 1))
        end = min(size, place + int(rng.integers(1, 1 + max(1, size // 4))))
        how = int(rng.integers(0, 8))
        if how == 0 and size:
            changed[min(place, size - 1)] ^= 1 << int(rng.integers(0, 8))
        elif how == 1:
            changed = changed[:place]
        elif how == 2:
            del changed[place:end]
        elif how == 3:
            changed[place:place] = changed[place:end]
        elif how == 4:
            changed[place:end] = bytes(end - place)
        elif how == 5:
            changed[place:end] = rng.bytes(end - place)
        elif how == 6 and size:
            start = int(rng.integers(0, min(size, 64)))  # headers are at the front
            changed[start : start + 4] = bytes([NUMBERS[int(rng.integers(0, len(NUMBERS)))]] * 4)
        elif size > 8:
            other = int(rng.integers(0, size))
            changed[place : place + 8], changed[other : other + 8] = (
                changed[other : other + 8],
                changed[place : place + 8],
            )
    return _with_checksums(bytes(changed)) if rng.random() < 0.5 else bytes(changed)


def check_picture(data: bytes) -> str:
    """Decode a file in every way; returns ok or the reason. Anything but a ``DecodeError`` gets out."""
    try:
        rgb = decode_image(data, LIMITS)
    except DecodeError as error:
        assert error.reason in REASONS, error
        _refused(lambda: inspect_image(data, LIMITS))
        for meaning in MEANINGS:
            _refused(partial(read_labels, data, meaning, LIMITS))
        return error.reason
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    assert rgb.shape[0] * rgb.shape[1] <= LIMITS.max_pixels and min(rgb.shape[:2]) >= LIMITS.min_side
    assert inspect_image(data, LIMITS)[:2] == rgb.shape[:2]
    for meaning in MEANINGS:
        _check_labels(partial(read_labels, data, meaning, LIMITS), rgb.shape[:2])
    return "ok"


def check_mask(data: bytes) -> str:
    """Decode a stored mask; returns ok or refused. Anything but a ``ValueError`` gets out."""
    try:
        mask = decode_mask(data)
    except ValueError:
        return "refused"
    assert mask.dtype == np.uint8 and mask.ndim == 2
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)
    with Image.open(io.BytesIO(data)) as same:
        assert same.format == "PNG"
    return "ok"


def _with_checksums(data: bytes) -> bytes:
    """Give the chunks of a PNG the checksums of what they hold now, so that the damage gets past them."""
    if not data.startswith(b"\x89PNG"):
        return data
    place, pieces = 8, [data[:8]]
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + size]
        pieces += [data[place : place + 4], body, struct.pack(">I", zlib.crc32(body))]
        place += size + 12
    return b"".join(pieces)


def _refused(decode: Callable[[], object]) -> None:
    try:
        decode()
    except DecodeError as error:
        assert error.reason in REASONS | LABEL_REASONS, error


def _check_labels(read: Callable[[], LabelMask], shape: tuple[int, ...]) -> None:
    """Read a good picture as labels: a reason, or a mask whose every value has a class."""
    try:
        label = read()
    except DecodeError as error:
        assert error.reason in REASONS | LABEL_REASONS, error
        return
    assert label.mask.dtype == np.uint8 and label.mask.shape == shape
    assert set(np.unique(label.mask).tolist()) <= {255, *range(len(label.class_ids) + 1)}
