"""Run lengths of COCO, CVAT and Label Studio: any mask survives, and faulty counts are refused."""

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fss.images.decode_errors import DecodeError
from fss.images.run_lengths import decode_box, decode_brush, decode_columns, encode_box, encode_brush, encode_columns

BOOLEANS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(np.bool_, shape))


@given(BOOLEANS)
def test_any_mask_survives_every_encoding(mask: np.ndarray) -> None:
    size = mask.shape
    np.testing.assert_array_equal(decode_columns({"size": [*size], "counts": encode_columns(mask)}, *size), mask)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), *size), mask)
    if mask.any():
        counts, box = encode_box(mask)
        np.testing.assert_array_equal(decode_box(counts, box, *size), mask)


@given(BOOLEANS)
def test_strings_of_counts_are_those_of_pycocotools(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [*mask.shape], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(decode_columns(segmentation, *mask.shape), mask)
    uncompressed = coco.frPyObjects({"size": [*mask.shape], "counts": encode_columns(mask)}, *mask.shape)
    np.testing.assert_array_equal(coco.decode(uncompressed), mask)


def test_long_runs_of_a_brush_are_split() -> None:
    mask = np.zeros((300, 400), bool)
    mask[290:] = True
    data = encode_brush(mask)
    assert len(data) < 40
    np.testing.assert_array_equal(decode_brush(data, 300, 400), mask)


def test_a_brush_with_other_lengths_and_literal_samples_is_read() -> None:
    """The bits of the format's description: 16 samples of 8 bits, lengths of 2, 4, 8 and 16 bits."""
    header = f"{16:032b}{7:05b}{1:04b}{3:04b}{7:04b}{15:04b}"
    literals = "0" + "00" + "11" + "".join(f"{value:08b}" for value in (9, 9, 9, 200))  # one opaque pixel
    rest = "1" + "01" + f"{11:04b}" + f"{0:08b}"  # twelve samples of 0
    bits = header + literals + rest
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    assert decode_brush(data, 2, 2).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    "counts",
    [
        [3, 3],
        [3, 30],
        [-1, 13],
        [12.0],
        [float("nan")],
        [float("inf")],
        [1e300],
        [10**30],
        [2**63 - 1, 2**63 - 1, 14],
        [None],
        [[12]],
        [[1, 2], [3]],
        [],
        None,
        {},
        "é",
        "P",
        "oooooooooooooo",
        "0" * 50,
    ],
)
def test_faulty_counts_are_refused(counts: Any) -> None:
    with pytest.raises(DecodeError, match="bad-run-lengths"):
        decode_columns({"size": [3, 4], "counts": counts}, 3, 4)
    if not isinstance(counts, str):
        with pytest.raises(DecodeError, match="bad-run-lengths"):
            decode_box(counts, (0, 0, 4, 3), 3, 4)


@pytest.mark.parametrize("size", [[4, 3], [3, 4.5], None, "3,4", [3, 4, 1]])
def test_another_size_is_refused(size: Any) -> None:
    with pytest.raises(DecodeError, match="size-mismatch"):
        decode_columns({"size": size, "counts": [12]}, 3, 4)


@pytest.mark.parametrize("box", [(0, 0, 5, 3), (-1, 0, 2, 2), (3, 2, 2, 2), (0, 0, 0, 0), (10**30, 0, 1, 1)])
def test_a_box_outside_of_the_photograph_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(DecodeError, match="bad-box"):
        decode_box([box[2] * box[3]], box, 3, 4)


@pytest.mark.parametrize("data", [None, "abc", [256], [-1], [1.5], [], [0, 0, 0, 48], 7, 10**30, [[1]]])
def test_faulty_brushes_are_refused(data: Any) -> None:
    with pytest.raises(DecodeError, match=r"bad-run-lengths|size-mismatch"):
        decode_brush(data, 3, 4)


@given(st.data())
def test_a_cut_or_changed_brush_is_a_mask_or_a_reason(data: st.DataObject) -> None:
    valid = encode_brush(np.eye(6, 7, dtype=bool))
    changed = list(valid[: data.draw(st.integers(0, len(valid)))])
    for position in data.draw(st.lists(st.integers(0, max(0, len(changed) - 1)), max_size=3)):
        if changed:
            changed[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        assert decode_brush(changed, 6, 7).shape == (6, 7)
