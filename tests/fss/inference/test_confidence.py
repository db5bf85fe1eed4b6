"""The expected IoU of masks with their own probabilities."""

import numpy as np
import pytest

from fss.inference.confidence import expected_iou


@pytest.mark.parametrize(
    ("probability", "mask", "expected"),
    [
        ([[1, 1], [0, 0]], [[1, 1], [0, 0]], 1.0),
        ([[0.8, 0.6], [0.2, 0.0]], [[1, 1], [0, 0]], 1.4 / 2.2),
        ([[0.8, 0.6], [0.2, 0.0]], [[1, 0], [0, 0]], 0.8 / 1.8),
        ([[0.4, 0.4], [0.4, 0.4]], [[0, 0], [0, 0]], 0.0),  # no object is found
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 0.0),
    ],
)
def test_intersection_and_union_are_expectations_over_the_pixels(
    probability: list[list[float]], mask: list[list[int]], expected: float
) -> None:
    assert expected_iou(np.array(probability, np.float32), np.array(mask, np.uint8)) == pytest.approx(expected)


def test_confidence_orders_answers_as_their_true_iou_does() -> None:
    """A distant object with clear edges is worth more than a weak guess over half of the picture."""
    rows, columns = np.mgrid[:64, :64]
    distance = np.hypot(rows - 32, columns - 32)
    clear = (1 / (1 + np.exp((distance - 9) * 3))).astype(np.float32)
    vague = np.where(columns < 32, 0.55, 0.45).astype(np.float32)
    scores = [expected_iou(each, (each > 0.5).astype(np.uint8)) for each in (clear, vague)]
    assert scores[0] > 0.8 > 0.5 > scores[1]
