"""Masks of SBD: files of any size and with any array are read or refused with a reason, before they take memory."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from fss.collection.sources.sbd import decode_sbd
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

LIMITS = DecodeLimits(max_bytes=200_000, max_pixels=100_000)


def file(segmentation: Any, *, compressed: bool = False, **others: Any) -> bytes:
    written = io.BytesIO()
    savemat(written, {"GTcls": {"Segmentation": segmentation, **others}}, do_compression=compressed)
    return written.getvalue()


def patched(data: bytes, old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    """Replace the sizes of an array."""
    before, after = (struct.pack(f"<{len(sides)}i", *sides) for sides in (old, new))
    assert data.count(before) == 1
    return data.replace(before, after)


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else np.zeros(1)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_mask_is_read_with_all_that_lies_beside_it(compressed: bool) -> None:
    mask = np.arange(30 * 41, dtype=np.uint8).reshape(30, 41) % 21
    outlines = np.empty(2, object)
    outlines[:] = [csc_matrix(mask == 1), csc_matrix(mask == 2)]
    data = file(mask, compressed=compressed, Boundaries=outlines, CategoriesPresent=np.array([1, 2]))
    assert np.array_equal(decode_sbd(data, LIMITS), mask)


CELLS = np.empty((3, 5), object)
CELLS[:] = 0
HUGE = (2**31 - 1, 2)
BOMB = file(np.zeros((4000, 5000), np.uint8), compressed=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (file(np.zeros((10, 10), np.uint8)) + bytes(200_000), "too-many-bytes: the file has more than 200000 bytes"),
        (BOMB, "too-many-bytes: its content has more than 200000 bytes"),
        (file(np.full((3, 4), 257, np.uint16)), "its values, 257 to 257, are no class ids of 8 bits"),
        (file(np.full((3, 4), 1.5)), "its values, 1.5 to 1.5, are no class ids"),
        (file(np.zeros((400, 300), np.uint8)), "too-many-pixels: it has an array of 400 x 300; the limit is 100000"),
        (patched(file(np.zeros((30, 41))), (30, 41), HUGE), "asks for an array of 2147483647 x 2, and has"),
        (patched(file(CELLS), (3, 5), HUGE), "asks for an array of 2147483647 x 2, and has"),
        (patched(file(np.zeros((30, 41))), (30, 41), (-1, 41)), "asks for an array of -1 x 41, and has"),
        (patched(file(csc_matrix(np.eye(11, 13))), (11, 13), HUGE), "too-many-pixels: .* 2147483647 x 2"),
        (file(nested(20)), "it has arrays within more than 8 arrays"),
        (file(np.zeros((30, 41)))[:-500], "it ends within an element"),
        (b"MATLAB 5.0 MAT-file, broken", "it is no MATLAB file of level 5"),
        (b"\x89HDF" + bytes(122) + b"IM", "Unknown mat file type"),
        (bytes(126) + b"IM" + struct.pack("<II", 15, 40) + zlib.compress(bytes(3))[:40], "no GTcls.Segmentation"),
    ],
)
def test_what_is_too_large_or_damaged_is_refused_before_it_takes_memory(data: bytes, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(DecodeError, match=reason):
        decode_sbd(data, LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
