"""The classical estimator on simple images, flat images and images of extreme sizes."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from fss.collection.schema import GATES, HARD_GATES, SCORES
from fss.saliency import SaliencyConfig, SaliencyEstimator
from tests.helpers.discs import disc, iou


def test_a_disc_is_segmented_with_high_scores() -> None:
    rgb, truth = disc()
    result = SaliencyEstimator().estimate(rgb, image_id="disc")
    assert result.mask.dtype == np.uint8 and set(np.unique(result.mask)) == {0, 1}
    assert result.soft.dtype == np.float32 and result.soft.shape == rgb.shape[:2]
    assert result.soft.min() >= 0 and result.soft.max() <= 1
    assert iou(result.mask, truth) > 0.93
    assert set(result.scores) == {*SCORES, *GATES}
    assert all(result.scores[gate] for gate in HARD_GATES)
    assert result.scores["agreement"] > 0.7 and result.scores["contrast"] > 0.7
    assert result.scores["area"] == pytest.approx(truth.mean(), rel=0.1)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_picture_has_no_object(value: int) -> None:
    result = SaliencyEstimator().estimate(np.full((90, 120, 3), value, np.uint8))
    assert not result.mask.any() and not result.soft.any()
    assert not any(result.scores.values()), "all scores 0 and every gate false"


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (31, 17), (2000, 9), (16, 4000), (24, 24)])
def test_results_of_tiny_and_extreme_images_have_their_size(shape: tuple[int, int]) -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    result = SaliencyEstimator().estimate(rng.integers(0, 255, (*shape, 3), dtype=np.uint8))
    assert result.mask.shape == result.soft.shape == shape
    assert np.isfinite(result.soft).all()


def test_an_object_in_a_small_image_is_segmented() -> None:
    rgb, truth = disc(40, 48)
    assert iou(SaliencyEstimator().estimate(rgb).mask, truth) > 0.8


@pytest.mark.parametrize("bars", [(30, 30, 0, 0), (0, 0, 40, 40), (20, 20, 25, 25), (25, 0, 0, 0)])
def test_letterbox_bars_are_excluded(bars: tuple[int, int, int, int]) -> None:
    rgb, truth = disc()
    top, bottom, left, right = bars
    framed = np.pad(rgb, ((top, bottom), (left, right), (0, 0)))
    result = SaliencyEstimator().estimate(framed)
    assert iou(result.mask, np.pad(truth, ((top, bottom), (left, right)))) > 0.9
    outside = np.ones(framed.shape[:2], bool)
    outside[top : top + rgb.shape[0], left : left + rgb.shape[1]] = False
    assert not result.mask[outside].any()


def test_a_white_backdrop_is_no_frame() -> None:
    _, truth = disc()
    rgb = np.where(truth[..., None], np.uint8([180, 40, 40]), np.uint8(255)).astype(np.uint8)
    assert iou(SaliencyEstimator().estimate(rgb).mask, truth) > 0.93


def test_an_object_at_the_border_is_segmented() -> None:
    rgb, truth = disc(centre=(0.75, 0.5), radius=0.3)
    assert truth[-1].any()
    assert iou(SaliencyEstimator().estimate(rgb).mask, truth) > 0.8


def test_noise_is_never_a_valid_full_mask() -> None:
    for seed in range(3):
        rng = np.random.Generator(np.random.Philox(key=seed))
        result = SaliencyEstimator().estimate(rng.integers(0, 255, (80, 100, 3), dtype=np.uint8))
        if result.mask.mean() in (0.0, 1.0):
            assert not all(result.scores[gate] for gate in HARD_GATES)


def test_a_result_does_not_depend_on_earlier_calls() -> None:
    rgb, _ = disc(seed=3)
    other, _ = disc(seed=4, centre=(0.3, 0.4))
    first = SaliencyEstimator().estimate(rgb, image_id="a")
    estimator = SaliencyEstimator()
    estimator.estimate(other, image_id="b")
    cv2.setRNGSeed(99)
    again = estimator.estimate(rgb, image_id="a")
    assert np.array_equal(first.mask, again.mask) and np.array_equal(first.soft, again.soft)
    assert first.scores == again.scores


def test_threads_do_not_change_the_mask() -> None:
    rgb, _ = disc(seed=5)
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = SaliencyEstimator().estimate(rgb)
        cv2.setNumThreads(4)
        four = SaliencyEstimator().estimate(rgb)
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(one.mask, four.mask)


def test_importing_does_not_change_global_state() -> None:
    code = "import cv2; n = cv2.getNumThreads(); import fss.saliency; assert cv2.getNumThreads() == n"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_invalid_input_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[H,W,3\].*decode"):
        SaliencyEstimator().estimate(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="segments"):
        SaliencyEstimator(SaliencyConfig(segments=2))


def test_without_refinement_the_cue_map_is_thresholded() -> None:
    rgb, truth = disc()
    result = SaliencyEstimator(SaliencyConfig(refine_rounds=0)).estimate(rgb)
    assert iou(result.mask, truth) > 0.8
