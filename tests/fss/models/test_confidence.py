"""Signals of answers, and the calibration that turns them into an expected IoU and a presence."""

import numpy as np
import pytest
import torch

from fss.core.config import to_dict
from fss.models.confidence import (
    SIGNALS,
    UNCALIBRATED,
    Calibration,
    answer_signals,
    expected_iou,
    parse_calibration,
)

NUMBER = len(SIGNALS)


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
    assert float(expected_iou(torch.tensor([probability]), torch.tensor([mask]))) == pytest.approx(expected)


def scene(side: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two maps [1,2,8,8] with an object in one corner, of one kind each, and the mask of the object."""
    mask = torch.zeros(1, 1, side, side)
    mask[..., : side // 2, : side // 2] = 1
    corner = torch.nn.functional.interpolate(mask, (8, 8), mode="area")
    return torch.cat([corner, 1 - corner], 1), torch.cat([0 * corner, torch.ones_like(corner)], 1), mask


def test_signals_depend_on_what_is_marked_and_not_on_the_size_of_the_probabilities() -> None:
    with_object, without, mask = scene()
    clear = mask[:, 0] * 0.98 + 0.01
    vague = torch.full((1, 64, 64), 0.45) + mask[:, 0] * 0.1
    signals = {
        name: answer_signals(probability, query, with_object, mask)[0]
        for name, probability, query in (
            ("right", clear, with_object),
            ("large", torch.nn.functional.interpolate(clear[None], (300, 300))[0], with_object),
            ("vague", vague, with_object),
            ("gone", clear, without),
            ("empty", 0 * clear, with_object),
        )
    }
    value = {name: dict(zip(SIGNALS, each.tolist(), strict=True)) for name, each in signals.items()}
    assert all(torch.isfinite(each).all() for each in signals.values())
    torch.testing.assert_close(signals["large"], signals["right"], atol=0.06, rtol=0.06)
    assert value["right"]["expected IoU"] > 0.9 > value["vague"]["expected IoU"]
    marked, most_similar = "object in the marked part", "object in the most similar part"
    assert value["right"][marked] > 0.95 > 0.1 > value["gone"][marked]
    assert value["right"][most_similar] > 0.95 > 0.1 > value["gone"][most_similar]
    assert value["right"]["ratio of the shares"] == pytest.approx(0)
    assert value["empty"]["expected IoU"] == 0


def test_signals_of_several_shots_are_those_of_their_mean_object() -> None:
    with_object, without, mask = scene()
    both = answer_signals(mask[:, 0], with_object, torch.cat([with_object, without]), mask.expand(1, 2, -1, -1))
    one = answer_signals(mask[:, 0], with_object, with_object, mask)
    similarity = SIGNALS.index("object in the marked part")
    assert 0 < float(both[0, similarity]) < float(one[0, similarity])


def test_without_a_calibration_the_confidence_is_what_the_probabilities_lead_to_expect() -> None:
    signals = torch.rand(5, NUMBER)
    np.testing.assert_allclose(UNCALIBRATED.confidence(signals), signals[:, 0], atol=1e-6)
    np.testing.assert_array_equal(UNCALIBRATED.presence(signals), 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"center": [0.0]}, f"center has 1 numbers; a calibration has {NUMBER}"),
        ({"scale": [0.0] * NUMBER}, "scale"),
        ({"ious": [0.0]}, "iou_scores must be in ascending order, and as many as ious"),
        ({"iou_scores": [1.0, 0.0]}, "iou_scores must be in ascending order"),
        ({"ious": [0.0, 2.0]}, "ious"),
        ({"threshold": 1.5}, "threshold"),
        ({"presence_bias": float("nan")}, "presence_bias"),
        ({"presence_weights": ["1"] * NUMBER}, "presence_weights"),
        ({"more": 1}, "more"),
    ],
)
def test_a_stored_calibration_is_checked_like_settings(change: dict[str, object], message: str) -> None:
    values = to_dict(UNCALIBRATED)
    assert parse_calibration(values, "segmenter.json") == UNCALIBRATED
    with pytest.raises(ValueError, match=rf"(?s)calibration in segmenter.json is invalid: .*{message}"):
        parse_calibration(values | change, "segmenter.json")
    with pytest.raises(ValueError, match="must be an object, got 3"):
        parse_calibration(3, "segmenter.json")


def test_a_signal_far_from_its_mean_does_not_decide_alone() -> None:
    values = to_dict(UNCALIBRATED) | {"presence_weights": [1.0] + [0.0] * (NUMBER - 1)}
    calibration = parse_calibration(values, "here")
    assert isinstance(calibration, Calibration)
    far = torch.zeros(1, NUMBER)
    far[0, 0] = 1e6
    assert float(calibration.presence(far)[0]) < 0.99
