"""The cut: hand-worked masks, the released defects, and what every cut must keep."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.config import SplitConfig
from fss.episodes.mask_split import Split, draw_split, is_splittable, split_mask

STRAIGHT = SplitConfig(tilt=0.0, alternate=False, min_half=0.01)


class FixedDraws:
    """Stands in for a generator: `random` gives 0, `integers` and `uniform` what the test wants."""

    def __init__(self, tilt: float):
        self.tilt = tilt

    def random(self) -> float:
        return 0.0

    def uniform(self, low: float, high: float) -> float:
        return low if low == high else self.tilt

    def integers(self, low: int, high: int) -> int:
        assert low <= self.tilt < high
        return int(self.tilt)


def cut(mask: Mask, config: SplitConfig, tilt: float = 0.0) -> Split:
    split = split_mask(mask, config, FixedDraws(tilt))  # type: ignore[arg-type]
    assert split is not None
    return split


def ellipses(count: int) -> list[Mask]:
    masks = []
    ys, xs = np.mgrid[:375, :500]
    for number in range(count):
        rng = keyed_rng(0, item=number, purpose="test.ellipse")
        cx, cy = rng.uniform(150, 350), rng.uniform(120, 255)
        a, b, angle = rng.uniform(30, 150), rng.uniform(30, 120), rng.uniform(0, np.pi)
        u = (xs - cx) * np.cos(angle) + (ys - cy) * np.sin(angle)
        v = (ys - cy) * np.cos(angle) - (xs - cx) * np.sin(angle)
        masks.append(((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.uint8))
    return masks


def test_a_straight_cut_by_hand() -> None:
    mask = np.array([[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0]], np.uint8)
    split = cut(mask, STRAIGHT)
    assert split.support.tolist() == [[0, 1, 1, 0, 0, 0]] * 2
    assert split.query.tolist() == [[0, 255, 255, 1, 1, 0]] * 2


def test_the_margin_belongs_to_neither_half() -> None:
    mask = np.array([[0, 1, 1, 1, 1, 1, 1, 0]] * 2, np.uint8)
    split = cut(mask, replace(STRAIGHT, margin=0.4))  # of 6 columns: 1.2 to either side of column 3
    assert split.support.tolist() == [[0, 1, 0, 0, 0, 0, 0, 0]] * 2
    assert split.query.tolist() == [[0, 255, 255, 255, 255, 1, 1, 0]] * 2
    turned = cut(mask.T.copy(), replace(STRAIGHT, vertical=0.0, horizontal=1.0, margin=0.4))
    assert turned.query.tolist() == np.array([[0, 1, 255, 255, 255, 255, 255, 0]] * 2).T.tolist()


def test_a_margin_that_leaves_no_half_is_refused_or_drawn_again() -> None:
    mask = np.ones((6, 6), np.uint8)
    assert split_mask(mask, replace(STRAIGHT, margin=0.99), FixedDraws(0.0)) is None  # type: ignore[arg-type]
    straight = draw_split(mask, replace(STRAIGHT, margin=0.99), seed=0, epoch=0, item="a")
    assert (straight.query == 1).sum() == 18
    with pytest.raises(ValueError, match="the released code has none"):
        SplitConfig(margin=0.1, as_released=True)


def test_a_slanted_cut_by_hand() -> None:
    # Columns 0..5, median column 2 (cumulated 3, 6, 9 of 18); the line runs from x = 3 at the top to x = 1 below, so
    # it passes x = 3, 2, 1 in the three rows, and the pixels on it count as left of it.
    split = cut(np.ones((3, 6), np.uint8), SplitConfig(tilt=1.0, alternate=False, min_half=0.01), tilt=1 / 6)
    assert split.support.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]


def test_a_horizontal_cut_by_hand() -> None:
    config = SplitConfig(vertical=0.0, horizontal=1.0, tilt=1.0, alternate=False, min_half=0.01)
    # Median row 2; the line runs from y = 1 at the left to y = 3 at the right; the first half lies below it.
    split = cut(np.ones((6, 3), np.uint8), config, tilt=1 / 6)
    assert split.support.T.tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]


def test_the_released_cut_by_hand() -> None:
    # Released sides for t = 1, h = 15, H = 3: (x - 12) * 2 - 2y, so the line is x = 12 + y.
    config = SplitConfig(as_released=True, alternate=False)
    split = split_mask(np.ones((3, 32), np.uint8), config, FixedDraws(1))  # type: ignore[arg-type]
    assert split is None  # the support sums to 39 only
    mask = np.ones((40, 32), np.uint8)
    split = cut(mask, config, tilt=1)
    value = (np.arange(32)[None] - 15 + 3) * 39 - 2 * np.arange(40)[:, None]
    assert np.array_equal(split.support, (value < 0).astype(np.uint8))
    assert np.array_equal(split.query, np.select([value < 0, value > 0], [255, 1], 0))
    assert (value == 0).sum() == 2
    assert (split.query[value == 0] == 0).all()


def test_the_released_horizontal_cut_by_hand() -> None:
    config = SplitConfig(as_released=True, alternate=False, vertical=0.0, horizontal=1.0)
    split = cut(np.ones((40, 32), np.uint8), config, tilt=2)
    value = 4 * (np.arange(32)[None] - 31) + (np.arange(40)[:, None] - 19 - 2) * 31
    assert np.array_equal(split.support, (value < 0).astype(np.uint8))


def smaller_shares(config: SplitConfig) -> list[float]:
    shares = []
    for number, mask in enumerate(ellipses(60)):
        split = split_mask(mask, config, keyed_rng(0, item=number, purpose="test"))
        if split is not None:
            halves = int((split.support == 1).sum()), int((split.query == 1).sum())
            shares.append(min(halves) / int(mask.sum()))
    return shares


def test_the_correction_balances_the_halves_of_ellipses() -> None:
    assert np.mean(smaller_shares(SplitConfig())) > 0.43
    assert min(smaller_shares(SplitConfig())) > 0.25
    released = smaller_shares(SplitConfig(as_released=True))
    assert np.mean(released) < 0.3
    assert sum(share == 0 for share in released) > 0  # tasks without a query object pass


def test_a_range_of_ratios_moves_the_line() -> None:
    config = SplitConfig(tilt=0.0, ratio=(0.25, 0.25), alternate=False)
    mask = np.ones((8, 8), np.uint8)
    assert cut(mask, config).support.sum() == 16


def test_alternate_gives_either_half_about_equally_often() -> None:
    mask = ellipses(1)[0]
    config = SplitConfig(tilt=0.0)
    firsts = [draw_split(mask, config, seed=0, epoch=e, item="a").support for e in range(40)]
    left = sum(int(np.nonzero(s)[1].mean() < np.nonzero(mask)[1].mean()) for s in firsts)
    assert 10 < left < 30


def test_without_ignoring_the_query_is_the_whole_object() -> None:
    mask = ellipses(1)[0]
    split = draw_split(mask, SplitConfig(ignore_support=False), seed=0, epoch=0, item="a")
    assert np.array_equal(split.query, mask)


def test_without_a_cut_both_are_the_object() -> None:
    mask = ellipses(1)[0]
    split = draw_split(mask, SplitConfig(vertical=0.0), seed=0, epoch=0, item="a")
    assert np.array_equal(split.query, mask)
    assert np.array_equal(split.support, mask)


def test_component_cuts_one_object_and_ignores_the_others() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[5:35, 5:35] = mask[5:35, 45:75] = 1
    mask[0, 79] = 1  # too small to be an object, ignored as well
    sides = set()
    for epoch in range(10):
        split = draw_split(mask, SplitConfig(component=True), seed=0, epoch=epoch, item="a")
        columns = np.nonzero((split.support == 1) | (split.query == 1))[1]
        assert columns.max() < 40 or columns.min() > 40
        assert split.query[0, 79] == 255
        assert int((split.query == 255).sum()) >= 900
        sides.add(bool(columns.max() < 40))
    assert sides == {True, False}


def test_an_extreme_shape_falls_back_to_the_straight_cut() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:55, 30] = 1  # one column wide: no vertical cut can part it
    split = draw_split(mask, SplitConfig(), seed=0, epoch=0, item="pole")
    assert split.support.sum() == 25
    assert (split.query == 1).sum() == 25


def test_ignored_pixels_of_the_mask_stay_ignored() -> None:
    mask = ellipses(1)[0]
    mask[:, :20] = 255
    split = draw_split(mask, SplitConfig(), seed=0, epoch=0, item="a")
    assert (split.query[:, :20] == 255).all()
    assert (split.support[:, :20] == 0).all()


def test_draws_depend_on_seed_epoch_and_item_alone() -> None:
    mask = ellipses(1)[0]

    def support(**key: object) -> bytes:
        settings = {"seed": 0, "epoch": 0, "item": "a"} | key
        return draw_split(mask, SplitConfig(), **settings).support.tobytes()  # type: ignore[arg-type]

    assert support() == support()
    assert len({support(), support(seed=1), support(epoch=1), support(item="b")}) == 4


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(4, 40), st.integers(4, 40), st.floats(0.02, 0.9))
def test_both_halves_always_hold_something_and_lose_nothing(seed: int, height: int, width: int, share: float) -> None:
    mask = (keyed_rng(seed, purpose="test").random((height, width)) < share).astype(np.uint8)
    if mask.sum() < 2:
        return
    split = draw_split(
        mask, SplitConfig(tilt=1.0, ratio=(0.2, 0.8), horizontal=0.5, vertical=0.5), seed=seed, epoch=0, item="x"
    )
    assert split.support.any()
    assert (split.query == 1).any()
    assert np.array_equal((split.support == 1) | (split.query == 1), mask == 1)
    assert np.array_equal(split.query == 255, split.support == 1)


def test_usable_asks_for_two_halves() -> None:
    assert is_splittable(500, 100, 1000, SplitConfig(min_half=0.0025))
    assert not is_splittable(499, 100, 1000, SplitConfig(min_half=0.0025))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: SplitConfig(vertical=0.7, horizontal=0.7), "vertical and horizontal .* got 0.7, 0.7"),
        (lambda: SplitConfig(ratio=(0.7, 0.2)), "ratio is a range .* got"),
        (lambda: SplitConfig(tilt=-1.0), "tilt must be greater than or equal to 0"),
        (lambda: split_mask(np.zeros((4, 4), np.uint8), SplitConfig(), keyed_rng(0, purpose="x")), "got"),
    ],
)
def test_wrong_input_is_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
