"""Scores and gates."""

import numpy as np
import pytest

from fss.collection.schema import HARD_GATES
from fss.saliency import quality
from tests.helpers.discs import disc


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "failing"),
    [
        (box(30, 70, 30, 70), set()),
        (box(0, 0, 0, 0), set(HARD_GATES)),
        (box(0, 100, 0, 100), {"gate_area", "gate_border", "gate_corners", "gate_span"}),
        (box(40, 50, 40, 50), {"gate_area"}),
        (box(0, 100, 40, 60), set()),
        (box(0, 50, 0, 100), {"gate_border"}),
        (box(40, 60, 0, 100) | box(0, 100, 40, 60), {"gate_span"}),
    ],
)
def test_gates(mask: np.ndarray, failing: set[str]) -> None:
    gates = quality.gates(mask, refined=True)
    assert {name for name in HARD_GATES if not gates[name]} == failing


def test_specks_are_no_component() -> None:
    mask = np.zeros((100, 100), bool)
    mask[::8, ::5] = True
    assert not quality.gates(mask, refined=True)["gate_component"]


def test_contrast_separates_a_disc_from_a_patch_of_background() -> None:
    from fss.saliency.classical.superpixels import to_lab

    rgb, truth = disc()
    lab = to_lab(rgb)
    patch = np.zeros_like(truth)
    patch[5:25, 5:25] = True
    assert quality.contrast(lab, truth) > 0.9 > 0.3 > quality.contrast(lab, patch)
    assert quality.contrast(lab, np.zeros_like(truth)) == 0


def test_agreement_and_stability_of_equal_and_different_maps() -> None:
    area = np.array([1.0, 1.0, 2.0])
    sharp, other = np.array([0, 0, 1], np.float32), np.array([1, 0, 0], np.float32)
    assert quality.agreement([sharp, sharp], area) == 1
    assert quality.agreement([sharp, other], area) == 0
    assert quality.stability(sharp * 0.9, area) in (0.0, 1.0)


def test_otsu_parts_two_clusters_and_counts_weights() -> None:
    values = np.array([0.1] * 50 + [0.8] * 50, np.float32)
    assert 0.1 < quality.otsu(values) < 0.8
