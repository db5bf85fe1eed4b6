"""Outlines of objects: good ones are rendered as pycocotools does, and faulty ones become a reason."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fss.images.decode_errors import DecodeError
from fss.images.outlines import decode_outline, encode_outline

coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")

HEIGHT, WIDTH = 48, 64
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
OTHER = [40, 10, 50, 10, 50, 20, 40, 20]
RUNS = [0, 100, HEIGHT * WIDTH - 100]
DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]


def _pixels(segmentation: Any, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    code, area = encode_outline(segmentation, height, width)
    mask = decode_outline(code)
    assert mask.shape == (height, width) and mask.sum() == area
    return mask


def _run_lengths(counts: Any, size: Any = (HEIGHT, WIDTH)) -> dict[str, Any]:
    return {"size": list(size), "counts": counts}


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [
        ([SQUARE], 400),
        (SQUARE, 400),
        ([SQUARE, OTHER], 500),
        ([[], SQUARE], 400),
        ([[40, 40, 45, 45], SQUARE], 400),
        ([SQUARE, [40, 40]], 400),
        ([[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]], HEIGHT * WIDTH),
        ([[-1e308, -1e308, 1e308, -1e308, 1e308, 1e308, -1e308, 1e308]], HEIGHT * WIDTH),
        ([[10, -(10**18), 30, -(10**18), 30, 10**18, 10, 10**18]], 20 * HEIGHT),
        ([[-1e9, 10, 30, 10, 30, 30, -1e9, 30]], 600),
        (_run_lengths(RUNS), 100),
        (_run_lengths([0, HEIGHT * WIDTH]), HEIGHT * WIDTH),
        (_run_lengths(RUNS, (48.0, 64.0)), 100),
        (_run_lengths(coco_mask.frPyObjects(_run_lengths(RUNS), HEIGHT, WIDTH)["counts"].decode()), 100),
    ],
)
def test_an_outline_becomes_its_pixels(segmentation: Any, area: int) -> None:
    assert _pixels(segmentation).sum() == area


@pytest.mark.parametrize(
    ("reason", "segmentations"),
    [
        ("no-outline", [None, [], [[]], [[], []], {}, "", 0, False]),
        ("bad-outline", ["polygon", 7, True, [SQUARE, 7], [SQUARE, None], [_run_lengths(RUNS)], [{}]]),
        ("too-few-points", [[[40, 40, 45, 45]], [40, 40, 45, 45], [[1, 2], [3, 4]], [[1, 2]], [[], [1, 2, 3, 4]]]),
        (
            "bad-coordinates",
            [
                *([[value, 10, 30, 10, 30, 30, 10, 30]] for value in (float("nan"), float("inf"), None, True, "10")),
                *([[value, 10, 30, 10, 30, 30, 10, 30]] for value in (10**400, [10], {"x": 1}, -float("inf"))),
                *([SQUARE, [None, 10, 30, 10, 30, 30]], [10, 10, None, 10, 30, 30], [[1, 2, 3, 4, 5, 6, 7]], DEEP),
            ],
        ),
        ("shares", [[[0.1, 0.1, 0.9, 0.1, 0.9, 1]], [[0.1, 0.1, 0.9, 0.1, 0.9, 1], [0, 0, 1, 0, 1, 1]]]),
        ("too-small", [[[10, 10] * 3], [[10, 10, 20, 20, 30, 30]]]),
        (
            "no-pixels",
            [
                [[1e9, 0, 2e9, 0, 2e9, 5]],
                [[100, 100, 200, 100, 200, 200]],
                _run_lengths([HEIGHT * WIDTH]),
                _run_lengths([HEIGHT * WIDTH, 0]),
            ],
        ),
        ("size-mismatch", [_run_lengths(RUNS, size) for size in ((64, 48), (48,), ("48", "64"), (48, 64, 1))]),
        ("size-mismatch", [{"counts": RUNS}, {"size": None, "counts": RUNS}, {"size": 48, "counts": RUNS}]),
        (
            "bad-run-lengths",
            [
                *map(_run_lengths, ([], None, "", 7, {}, [0, 100], [0, 100, 10**9], [-100, 100, 3072], [0.5, 3071.5])),
                *map(_run_lengths, ([0, 10**30], [None], [[3072]], ["3072"], [True], DEEP, "é", "\ud800", "P", "PP`")),
                *map(_run_lengths, ("0" * 5000, "oooooooooooooooo", "\x00", "0\n", [3071], [3072, 1])),
            ],
        ),
    ],
)
def test_a_faulty_outline_is_a_reason(reason: str, segmentations: list[Any]) -> None:
    for segmentation in segmentations:
        with pytest.raises(DecodeError) as caught:
            encode_outline(segmentation, HEIGHT, WIDTH)
        assert caught.value.reason == reason, segmentation


def test_an_outline_that_is_too_long_is_a_reason() -> None:
    zigzag = [value for number in range(60) for value in (0, 2 * number, 32_000, 2 * number + 1)]
    with pytest.raises(DecodeError, match="outline-too-long"):
        encode_outline([zigzag], 2000, 32_000)
    assert _pixels([zigzag[:40]], 2000, 32_000).sum() > 0


@settings(max_examples=60)
@given(
    st.lists(st.floats(-30, 1000, width=32), min_size=6, max_size=40).filter(
        lambda part: len(part) % 2 == 0 and max(part) > 1
    ),
    st.sampled_from([(20, 30), (48, 64), (64, 48)]),
)
def test_outlines_near_the_picture_have_the_pixels_of_pycocotools(part: list[float], size: tuple[int, int]) -> None:
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([part], *size)))
    if expected.any():
        np.testing.assert_array_equal(_pixels([part], *size), expected)


def test_outlines_far_outside_are_cut_where_it_does_not_show() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(40):
        part = (rng.normal(size=2 * rng.integers(8, 12)) * 6e4).tolist()
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([part], 3000, 4000)))
        if 0 < expected.sum() < expected.size:
            shares.append(float((_pixels([part], 3000, 4000) != expected).mean()))
    assert len(shares) > 5
    assert max(shares) < 5e-5  # a cut edge is rounded at other points, by a fifth of a pixel


def test_one_huge_coordinate_takes_no_memory() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from fss.images.outlines import encode_outline\n"
        "print(encode_outline([[1e9, 10, 30, 10, 30, 30, 10, 30]], 48, 64)[1])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert 0 < int(result.stdout) < HEIGHT * WIDTH
