"""Choice of support sets."""

from dataclasses import replace

import numpy as np
import pytest

from fss.relabel import RelabelConfig
from fss.relabel.supports import Shot, deal, foreground, support_sets

RGB = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
MASK = np.zeros((64, 64), np.uint8)
MASK[20:40, 10:50] = 1
NONE = np.zeros_like(MASK)
CONFIG = RelabelConfig(shots=2, sets=2, min_similarity=0.5)
NEAR = ["a", "b", "c", "d"]
COSINES = [0.9, 0.8, 0.7, 0.6]


def test_neighbours_are_dealt_to_sets_nearest_first() -> None:
    assert support_sets(CONFIG, "q", RGB, MASK, NEAR, COSINES) == [["a", "c"], ["b", "d"]]
    assert deal([*NEAR, "e"], CONFIG) == [["a", "c"], ["b", "d"]]
    assert deal(["a", "b", "c"], CONFIG) == [["a"], ["b"]]


def test_an_image_without_a_mask_can_use_its_neighbours() -> None:
    assert support_sets(CONFIG, "q", RGB, NONE, NEAR, COSINES) == [["a", "c"], ["b", "d"]]


@pytest.mark.parametrize(("near", "cosines"), [(NEAR, [0.4, 0.3, 0.2, 0.1]), ([], []), (["a"], [0.9])])
def test_an_image_without_near_neighbours_is_its_own_support(near: list[str], cosines: list[float]) -> None:
    sets = support_sets(CONFIG, "q", RGB, MASK, near, cosines)
    assert [len(shots) for shots in sets] == [1, 1] and all(isinstance(shots[0], Shot) for shots in sets)
    with pytest.raises(ValueError, match="no support: its own mask is empty"):
        support_sets(CONFIG, "q", RGB, NONE, near, cosines)


def own_supports(kind: str) -> list[Shot]:
    config = replace(CONFIG, supports="self", own=kind)  # type: ignore[arg-type]
    shots = [shots[0] for shots in support_sets(config, "q", RGB, MASK, NEAR, COSINES)]
    return [shot for shot in shots if isinstance(shot, Shot)]


def test_halves_are_disjoint_and_cover_the_mask() -> None:
    first, second = own_supports("half")
    assert (first.rgb == RGB).all() and (first.mask + second.mask == MASK).all()
    assert min(first.mask.sum(), second.mask.sum()) > 0.3 * MASK.sum()
    assert all((a.mask == b.mask).all() for a, b in zip(own_supports("half"), (first, second), strict=True))


def test_own_views_are_the_mirror_image_and_a_crop_of_the_object() -> None:
    mirrored, crop = own_supports("view")
    assert (mirrored.rgb == RGB[:, ::-1]).all() and (mirrored.mask == MASK[:, ::-1]).all()
    assert crop.rgb.shape == RGB.shape and crop.mask.mean() > 2 * MASK.mean()


def test_foreground_is_any_class_without_ignored_pixels() -> None:
    assert foreground(np.array([[0, 1, 7, 255]], np.uint8)).tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shots": 0}, "shots must be greater than or equal to 1, got 0"),
        ({"sets": 1}, "sets must be greater than or equal to 2, got 1"),
        ({"background": 0.8}, "background is not above foreground, got 0.8 and 0.7"),
        ({"scales": (0.5,)}, "1 among them"),
        ({"flip": False}, "one view agrees with nothing"),
    ],
)
def test_invalid_settings_are_rejected(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as raised:
        replace(RelabelConfig(), **change)  # type: ignore[arg-type]
    assert words in str(raised.value)
