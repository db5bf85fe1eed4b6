"""Masks and scores from hand-made votes."""

import numpy as np
import pytest

from fss.relabel import RelabelConfig
from fss.relabel.labels import VoteSet, make_label, reliability

CONFIG = RelabelConfig(foreground=0.7, background=0.3, margin=0.1)
LEFT = np.zeros((8, 8), np.float32)
LEFT[:, :4] = 1
TOP = np.ascontiguousarray(LEFT.T)
NONE = np.zeros_like(LEFT)


def vote_set(votes: dict[int, np.ndarray], **rest: object) -> VoteSet:
    return VoteSet(**{"votes": votes, "earlier": (), "current": None} | rest)  # type: ignore[arg-type]


def votes(*sets: np.ndarray) -> np.ndarray:
    """Stack the maps of support sets, the same in both views."""
    return np.stack([np.stack(sets)] * 2)


def test_confident_pixels_are_labelled_and_the_rest_ignored() -> None:
    label = make_label(vote_set({1: votes(LEFT, TOP)}), (8, 8), CONFIG)
    expected = np.full((8, 8), 255)
    expected[:4, :4], expected[4:, 4:] = 1, 0
    assert (label.mask == expected).all() and label.classes == [1]
    assert (label.soft == (LEFT + TOP) / 2).all()
    assert label.scores["area"] == 0.25 and label.scores["gate_area"] is True


def test_the_mask_has_the_pictures_size() -> None:
    label = make_label(vote_set({1: votes(LEFT, LEFT)}), (20, 30), CONFIG)
    assert label.mask.shape == label.soft.shape == (20, 30)
    assert (label.mask[:, :11] == 1).all() and (label.mask[:, 19:] == 0).all()


def test_scores_equal_those_counted_by_hand() -> None:
    maps = np.stack([np.stack([LEFT, LEFT]), np.stack([TOP, TOP])])  # the views disagree, the sets agree
    scores = reliability(vote_set({1: 0.6 * maps + 0.21}), 0.5)
    assert scores == {"view": pytest.approx((32 / 48 + 32 / 48) / 2), "support": pytest.approx(1.0)}
    scores = reliability(
        vote_set({1: votes(LEFT, TOP)}, current=TOP.astype(np.uint8), earlier=[{1: votes(TOP, TOP)}]), 0.5
    )
    assert scores["support"] == pytest.approx(16 / 48) and scores["view"] == 1.0
    # A mean of exactly one half is no object: both sets share a quarter, and all of it lies in the earlier mask.
    assert scores["previous"] == scores["checkpoint"] == pytest.approx(16 / 32)


def test_masks_are_compared_midway_between_the_thresholds() -> None:
    faint = vote_set({1: votes(0.4 * LEFT, 0.4 * LEFT)})
    low = make_label(faint, (8, 8), RelabelConfig(foreground=0.3, background=0.1))
    assert low.scores["support"] == 1.0 and (low.mask == LEFT).all()
    assert "support" not in make_label(faint, (8, 8), CONFIG).scores


def test_ignored_pixels_of_the_earlier_mask_do_not_count() -> None:
    current = np.full((8, 8), 255, np.uint8)
    current[:4, :4] = 1
    assert reliability(vote_set({1: votes(LEFT, LEFT)}, current=current), 0.5)["previous"] == 1.0


def test_no_object_gives_an_empty_mask_without_agreement() -> None:
    label = make_label(vote_set({1: votes(NONE, NONE)}, current=NONE.astype(np.uint8)), (8, 8), CONFIG)
    assert not label.mask.any() and label.classes == []
    assert not {"view", "support", "previous", "checkpoint"} & set(label.scores)
    assert label.scores["gate_area"] is False
    absent = make_label(vote_set({}), (8, 8), CONFIG)
    assert not absent.mask.any() and absent.classes == [] and "view" not in absent.scores


def test_an_empty_prediction_of_one_set_counts_as_disagreement() -> None:
    assert reliability(vote_set({1: votes(LEFT, NONE)}), 0.5)["support"] == 0.0
    assert reliability(vote_set({1: votes(LEFT, LEFT)}, current=NONE.astype(np.uint8)), 0.5)["previous"] == 0.0


def test_classes_share_the_picture_and_close_calls_are_ignored() -> None:
    second = TOP.copy()
    second[:4, :4] = 0.95
    label = make_label(vote_set({7: votes(LEFT, LEFT), 3: votes(second, second), 5: votes(NONE, NONE)}), (8, 8), CONFIG)
    assert label.classes == [3, 7]  # values 1 and 2; class 5 is nowhere
    assert (label.mask[:4, :4] == 255).all() and (label.mask[:4, 4:] == 1).all()
    assert (label.mask[4:, :4] == 2).all() and (label.mask[4:, 4:] == 0).all()
