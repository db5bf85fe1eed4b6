"""Strong augmentation: labels follow the picture's moves exactly."""

import numpy as np
import pytest
import torch

from fss.core.rng import keyed_rng
from fss.training.semi_supervised.config import StrongConfig
from fss.training.semi_supervised.strong_augmentation import (
    GEOMETRIC,
    OPERATIONS,
    StrongPlan,
    apply_strong,
    draw_strong,
    gather,
    geometric_index,
    warp_labels,
)

SHAPE = (40, 56)


def numbered() -> np.ndarray:
    """A picture in which every pixel has its own colour, never black."""
    count = np.arange(1, SHAPE[0] * SHAPE[1] + 1).reshape(SHAPE)
    return np.stack([count % 256, count // 256, np.full(SHAPE, 9)], 2).astype(np.uint8)


def labels() -> np.ndarray:
    return keyed_rng(0, purpose="test.labels").integers(0, 21, SHAPE).astype(np.uint8)


def test_there_are_the_fourteen_operations() -> None:
    assert len(OPERATIONS) == len(set(OPERATIONS)) == 14 and set(GEOMETRIC) < set(OPERATIONS)


@pytest.mark.parametrize("steps", [[(name, 0.9)] for name in GEOMETRIC] + [[(name, -0.5) for name in GEOMETRIC]])
def test_labels_warped_by_the_index_are_labels_warped_directly(steps: list[tuple[str, float]]) -> None:
    picture, index = apply_strong(numbered(), StrongPlan(steps=tuple(steps), cutouts=()))
    direct = labels()
    for name, strength in steps:
        direct = gather(direct, geometric_index(SHAPE, name, strength), 255)
    warped = warp_labels(torch.from_numpy(labels())[None], torch.from_numpy(index).long()[None])[0].numpy()
    assert np.array_equal(warped, direct)
    outside = index < 0
    assert 0 < outside.mean() < 0.9 and (warped[outside] == 255).all() and (picture[outside] == 127).all()
    assert np.array_equal(picture[~outside], numbered().reshape(-1, 3)[index[~outside]])


def test_a_translation_moves_whole_pixels_and_a_rotation_turns_around_the_centre() -> None:
    down = geometric_index(SHAPE, "translate_y", 0.5)
    assert (down[-5:] == -1).all() and down[0, 3] == 5 * SHAPE[1] + 3
    blob = np.zeros((41, 41), np.uint8)
    blob[18:23, 33:38] = 1  # 15 pixels right of the centre
    turned = gather(blob, geometric_index(blob.shape, "rotate", 1.0), 7)
    assert (turned == 7).any()
    assert np.argwhere(turned == 1).mean(0) == pytest.approx([20 + 15 / 2, 20 + 15 * 3**0.5 / 2], abs=0.5)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in GEOMETRIC])
@pytest.mark.parametrize("strength", [-0.9, 0.9])
def test_colours_change_and_nothing_moves(name: str, strength: float) -> None:
    picture, index = apply_strong(numbered(), StrongPlan(steps=((name, strength),), cutouts=()))
    assert np.array_equal(index, np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE))
    assert picture.shape == (*SHAPE, 3) and (np.array_equal(picture, numbered()) == (name == "identity"))


def test_strengths_are_those_of_the_released_code() -> None:
    """The nine levels of the released operations, by hand: posterize 4 - int(4 n / 10), solarize, and 0.1 + 0.18 n."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    levels = np.arange(1, 10) / 10

    def after(name: str, strength: float) -> np.ndarray:
        return apply_strong(ramp, StrongPlan(steps=((name, strength),), cutouts=()))[0]

    values = [len(np.unique(after("posterize", strength))) for strength in levels]
    assert values == [2**bits for bits in (4, 4, 3, 3, 2, 2, 2, 1, 1)]
    kept = [int((after("solarize", -strength) == ramp).all(2).sum()) for strength in levels]
    assert kept == [231, 205, 180, 154, 128, 103, 77, 52, 26]
    bright = [int(after("brightness", strength).reshape(-1, 3)[100, 0]) for strength in levels]
    assert bright == pytest.approx([100 * (0.1 + 0.18 * n) for n in range(1, 10)], abs=1.5)


def test_tones_of_st_plus_plus_are_drawn_and_move_nothing() -> None:
    config = StrongConfig(operations=0, cutouts=0, jitter=0.8, grey=0.2, blur=0.5)
    plans = [draw_strong(keyed_rng(0, item=n, purpose="test.tones"), SHAPE, config) for n in range(300)]
    names = [[name for name, _ in plan.tones] for plan in plans]
    for name, share in (("hue", 0.8), ("contrast", 0.8), ("grey", 0.2), ("blur", 0.5)):
        assert sum(name in each for each in names) / len(names) == pytest.approx(share, abs=0.08)
    assert len({tuple(each[:4]) for each in names if "hue" in each}) > 5, "the jitter has a random order"
    for tone in (("brightness", 0.5), ("contrast", 1.5), ("color", 0.5), ("hue", -0.25), ("grey", 0.0), ("blur", 2.0)):
        picture, index = apply_strong(numbered(), StrongPlan(steps=(), cutouts=(), tones=(tone,)))
        assert np.array_equal(index.ravel(), np.arange(index.size)) and not np.array_equal(picture, numbered())
    grey, _ = apply_strong(numbered(), StrongPlan(steps=(), cutouts=(), tones=(("grey", 0.0),)))
    assert (grey == grey[..., :1]).all()


def test_cutouts_hide_the_picture_and_leave_the_labels() -> None:
    plan = StrongPlan(steps=(), cutouts=((-4, -4, 10), (30, 50, 32)))
    picture, index = apply_strong(numbered(), plan)
    hidden = (picture == 127).all(2)
    assert hidden[:6, :6].all() and hidden[30:, 50:].all() and hidden.sum() == 36 + 60
    assert (index >= 0).all()


def test_draws_have_the_configured_frequency_and_repeat() -> None:
    config = StrongConfig()
    plans = [draw_strong(keyed_rng(0, item=n, purpose="test.strong"), SHAPE, config) for n in range(300)]
    assert plans[0] == draw_strong(keyed_rng(0, item=0, purpose="test.strong"), SHAPE, config)
    applied = [len(plan.steps) for plan in plans]
    assert max(applied) == 3 and 1.3 < np.mean(applied) < 1.7
    strengths = {round(abs(strength), 1) for plan in plans for _, strength in plan.steps}
    assert strengths == {n / 10 for n in range(1, 10)}
    assert all(len(plan.cutouts) == 3 for plan in plans)
    with pytest.raises(ValueError, match="probability must be less than or equal to 1"):
        StrongConfig(probability=2)
