"""Episodes to draw: best, worst and random, and no more predictions kept than these need."""

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


def test_random_episodes_repeat_and_are_all_where_there_are_few() -> None:
    assert random_episode_numbers(plan(), 3) == random_episode_numbers(plan(), 3)
    assert random_episode_numbers(plan(), 99) == list(range(10, 17))


@pytest.mark.parametrize("order", [range(7), reversed(range(7)), [3, 5, 0, 6, 2, 4, 1]])
def test_the_gallery_keeps_what_will_be_drawn_in_any_order(order: list[int]) -> None:
    gallery = Gallery(fixed=[10, 15], extremes=2)
    for row in order:
        gallery.offer(10 + row, IOUS[row], mask(row))
        assert len(gallery.masks) <= 6
    assert sorted(gallery.masks) == [10, 11, 12, 13, 14, 15]
    assert all((found == number - 10).all() for number, found in gallery.masks.items())


def test_the_extremes_of_shares_hold_those_of_the_whole() -> None:
    kept: dict[int, np.ndarray] = {}
    for share in (range(3), range(3, 7)):
        gallery = Gallery(extremes=1)
        for row in share:
            gallery.offer(10 + row, IOUS[row], mask(row))
        kept |= gallery.masks
    chosen = choose_episodes(plan(), counts(), 1)
    assert {*chosen["best"], *chosen["worst"]} <= kept.keys()


def test_nothing_is_kept_without_a_wish() -> None:
    gallery = Gallery()
    gallery.offer(1, 0.5, mask(1))
    assert gallery.masks == {}
