"""The boundary F-measure."""

import cv2
import numpy as np
import pytest

from fss.evaluation.boundary import boundary_f

SHAPE = (120, 160)  # the diagonal is 200 pixels, so the tolerance is 2


def square(left: int, top: int, side: int = 40) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


TRUTH = square(50, 40)
EMPTY = np.zeros(SHAPE, np.uint8)
HALF = np.where(np.arange(160) < 80, 1, 0).astype(np.uint8).repeat(120).reshape(160, 120).T


@pytest.mark.parametrize(
    ("mask", "truth", "expected"),
    [
        (TRUTH, TRUTH, 1.0),
        (square(51, 41), TRUTH, 1.0),
        (square(100, 90, 20), TRUTH, 0.0),
        (EMPTY, TRUTH, 0.0),
        (TRUTH, EMPTY, 0.0),
        (EMPTY, EMPTY, 1.0),
        (np.ones(SHAPE, np.uint8), HALF, 0.0),
        (HALF, HALF, 1.0),
        (square(50, 40) | square(5, 5, 5), square(50, 40), 2 * 156 / (2 * 156 + 16)),
    ],
)
def test_the_measure_counts_matching_outlines(mask: np.ndarray, truth: np.ndarray, expected: float) -> None:
    assert boundary_f(mask, truth) == pytest.approx(expected)


def test_a_wobbly_outline_scores_less_than_the_overlap() -> None:
    disc, wobbly = EMPTY.copy(), EMPTY.copy()
    cv2.circle(disc, (80, 60), 40, 1, -1)
    angles = np.linspace(0, 2 * np.pi, 200)
    radius = 40 + 5 * np.sin(9 * angles)
    points = np.stack([80 + radius * np.cos(angles), 60 + radius * np.sin(angles)], 1)
    cv2.fillPoly(wobbly, [points.astype(np.int32)], 1)
    assert 0.3 < boundary_f(wobbly, disc) < (wobbly & disc).sum() / (wobbly | disc).sum()
    assert boundary_f(wobbly, disc, tolerance=0.04) == 1.0


def test_outlines_next_to_ignored_pixels_do_not_count() -> None:
    truth = TRUTH.copy()
    truth[38:82, 48:54] = truth[38:82, 86:92] = truth[38:44, 48:92] = truth[76:82, 48:92] = 255
    assert boundary_f(EMPTY, truth) == 1.0
    with pytest.raises(ValueError, match="differ in size"):
        boundary_f(TRUTH[:50], TRUTH)
