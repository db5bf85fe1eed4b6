"""Selection of best, worst and random episodes, and of the predictions that stay in memory."""

import numpy as np
import pytest

from fss.episodes.episode_plan import Episode, EpisodePlan
from fss.evaluation.example_gallery import Gallery, choose_episodes, episode_ious, random_episode_numbers

IOUS = [0.5, 0.9, 0.1, 0.7, 0.1, np.nan, 0.3]


def plan(count: int = len(IOUS)) -> EpisodePlan:
    rows = tuple(Episode(10 + number, 1, "q", ("s",)) for number in range(count))
    return EpisodePlan(episodes=rows, protocol="ours", seed=0, shots=1)


def counts() -> np.ndarray:
    return np.array([[[0, 0], [0, 0]] if np.isnan(iou) else [[0, round(iou * 10)], [10, 10]] for iou in IOUS])


def mask(number: int) -> np.ndarray:
    return np.full((2, 2), number, np.uint8)


def test_an_empty_union_has_no_iou() -> None:
    assert episode_ious(counts()) == pytest.approx(IOUS, nan_ok=True)


def test_best_worst_and_random_by_hand() -> None:
    chosen = choose_episodes(plan(), counts(), 2)
    assert chosen["best"] == [11, 13]
    assert chosen["worst"] == [12, 14]
    assert chosen["random"] == random_episode_numbers(plan(), 2)


def test_random_episodes_are_reproducible_and_all_of_a_small_plan() -> None:
    assert random_episode_numbers(plan(), 3) == random_episode_numbers(plan(), 3)
    assert random_episode_numbers(plan(), 99) == list(range(10, 17))


@pytest.mark.parametrize("order", [range(7), reversed(range(7)), [3, 5, 0, 6, 2, 4, 1]])
def test_the_gallery_keeps_the_same_predictions_in_any_order(order: list[int]) -> None:
    gallery = Gallery(fixed=[10, 15], extremes=2)
    for row in order:
        gallery.offer(10 + row, IOUS[row], mask(row))
        assert len(gallery.masks) <= 6
    assert sorted(gallery.masks) == [10, 11, 12, 13, 14, 15]
    assert all((predicted == number - 10).all() for number, predicted in gallery.masks.items())


def test_extremes_of_the_parts_include_those_of_the_plan() -> None:
    masks: dict[int, np.ndarray] = {}
    for part in (range(3), range(3, 7)):
        gallery = Gallery(extremes=1)
        for row in part:
            gallery.offer(10 + row, IOUS[row], mask(row))
        masks |= gallery.masks
    chosen = choose_episodes(plan(), counts(), 1)
    assert {*chosen["best"], *chosen["worst"]} <= masks.keys()


def test_one_class_does_not_fill_a_group() -> None:
    ious, classes = [0.1, 0.2, 0.3, 0.4, 0.5], [1, 1, 1, 1, 2]
    rows = tuple(Episode(number, class_id, "q", ("s",)) for number, class_id in enumerate(classes))
    two_classes = EpisodePlan(episodes=rows, protocol="ours", seed=0, shots=1)
    chosen = choose_episodes(two_classes, np.array([[[0, round(iou * 10)], [10, 10]] for iou in ious]), 3)
    assert (chosen["best"], chosen["worst"]) == ([4, 3, 2], [0, 1, 4])
    gallery = Gallery(extremes=3)
    for row in (1, 4, 0, 2, 3):
        gallery.offer(row, ious[row], mask(row), class_id=classes[row])
    assert {*chosen["best"], *chosen["worst"]} == gallery.masks.keys()


def test_an_empty_gallery_keeps_nothing() -> None:
    gallery = Gallery()
    gallery.offer(1, 0.5, mask(1))
    assert gallery.masks == {}
