"""Calibrations fitted to answers, and measures of confidence and presence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fss.episodes.episode_plan import Episode, EpisodePlan
from fss.evaluation.calibration import Answers, absent_plan, fit_calibration, mask_ious, measure_sureness
from fss.models.confidence import SIGNALS, UNCALIBRATED

NUMBER = len(SIGNALS)


def answers(count: int, seed: int = 0) -> Answers:
    """Return answers whose first signal tells the IoU, and whose last signal tells presence, both with noise."""
    rng = np.random.default_rng(seed)
    quality = rng.random(count)
    signals, absent = rng.normal(size=(2, count, NUMBER)).astype(np.float32)
    signals[:, 0], absent[:, 0] = quality, rng.random(count)
    signals[:, -1] += 4
    ious = np.clip(0.5 * quality**2 + rng.normal(0, 0.03, count), 0, 1)
    return Answers(signals=torch.from_numpy(signals), ious=ious, absent=torch.from_numpy(absent))


def test_a_calibration_finds_the_signals_that_tell() -> None:
    calibration = fit_calibration(answers(300), source="a test")
    assert calibration.source == "a test"
    sureness = measure_sureness(calibration, answers(400, seed=1))
    assert sureness.spearman > 0.9
    assert sureness.calibration_error < 0.05
    assert sureness.separation > 0.98
    assert sureness.absent_empty > 0.9
    assert sureness.present_lost == pytest.approx(0.1, abs=0.05)
    uncalibrated = measure_sureness(UNCALIBRATED, answers(400, seed=1))
    assert uncalibrated.calibration_error > 0.2
    assert (uncalibrated.separation, uncalibrated.absent_empty, uncalibrated.present_lost) == (0.5, 0, 0)


def test_answers_within_pictures_set_no_threshold() -> None:
    across, within = (fit_calibration(answers(50), source="a test", empty_masks=empty) for empty in (True, False))
    assert within == replace(across, threshold=0.0) != across


def test_with_few_answers_nothing_is_fitted() -> None:
    assert fit_calibration(answers(19), source="a test") == UNCALIBRATED
    assert fit_calibration(Answers.join([]), source="a test") == UNCALIBRATED


def test_answers_that_do_not_differ_are_no_error() -> None:
    same = Answers(signals=torch.zeros(30, NUMBER), ious=np.zeros(30), absent=torch.zeros(30, NUMBER))
    sureness = measure_sureness(fit_calibration(same, source="a test"), same)
    assert (sureness.spearman, sureness.separation, sureness.absent_empty) == (0, 0.5, 1)


def test_the_absent_queries_of_a_plan_are_its_own_and_do_not_show_the_class() -> None:
    episodes = tuple(Episode(n, n % 2, f"q{n}", (f"s{n}",)) for n in range(20))
    plan = EpisodePlan(episodes=episodes, protocol="ours", seed=0, shots=1)
    images_of = {0: {f"q{n}" for n in range(0, 20, 2)}, 1: {f"q{n}" for n in range(1, 20, 2)} | {"q2"}}
    absent = absent_plan(plan, images_of, limit=15)
    assert [each.number for each in absent] == list(range(15))
    for episode in absent:
        assert episode.query_id not in images_of[episode.class_id]
        assert episode.support_ids == episodes[episode.number].support_ids
    assert len({episode.query_id for episode in absent}) > 5
    assert absent_plan(plan, images_of, limit=15) == absent
    assert len(absent_plan(plan, {0: set(), 1: {f"q{n}" for n in range(20)}}, limit=20)) == 10


def test_the_iou_of_an_empty_mask_is_0() -> None:
    target = torch.tensor([[[1, 0, 255]], [[1, 1, 0]], [[0, 0, 0]]])
    masks = torch.tensor([[[1, 1, 1]], [[0, 0, 0]], [[0, 0, 0]]])
    np.testing.assert_allclose(mask_ious(masks, target), [0.5, 0, 0])
