"""Visualizations: sizes, colours and degenerate input."""

import numpy as np
import pytest

from fss.collection import Sample
from fss.visualize import (
    CORRECT,
    EPISODE_COLOURS,
    FOREGROUND,
    EpisodeView,
    contact_sheet,
    episode_legend,
    episode_sheet,
    fit,
    label_sheet,
    overlay,
    png_bytes,
)


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return np.full((height, width, 3), 100, np.uint8), mask


def test_overlay_tints_only_the_mask() -> None:
    rgb, mask = picture(40, 60)
    out = overlay(rgb, mask)
    assert (out[mask == 0] == rgb[mask == 0]).all()
    assert (out[mask == 1] != rgb[mask == 1]).any(axis=1).all()


@pytest.mark.parametrize("colour", [(220, 20, 30), (0, 158, 255), (250, 250, 250), (10, 10, 10)])
def test_a_mask_stands_out_on_an_object_of_any_colour(colour: tuple[int, int, int]) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    seen = overlay(np.full((40, 40, 3), colour, np.uint8), mask).astype(int)
    halo, line = seen[10, 20], seen[12, 20]
    assert (halo == 255).all() and (line == FOREGROUND).all()
    assert np.abs(halo - colour).max() > 100 or np.abs(line - colour).max() > 100


def test_overlay_rejects_another_size() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))


@pytest.mark.parametrize("size", [(50, 200), (200, 50), (1, 999)])
def test_fit_keeps_proportions_inside_the_square(size: tuple[int, int]) -> None:
    rgb, mask = fit(*picture(*size), 64)
    assert rgb.shape == (64, 64, 3)
    assert mask.shape == (64, 64)


def sample(mask: np.ndarray, classes: tuple[int, ...]) -> Sample:
    return Sample(image_id="", rgb=np.full((*mask.shape, 3), 100, np.uint8), mask=mask, classes=classes)


def test_a_sheet_of_labels_has_a_colour_per_class_a_hatch_and_a_legend() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[:20], mask[20:40] = 1, 2
    names, pictures = {3: "cat", 7: "dog", 9: "cow"}, {3: 1, 7: 2}
    ignored = np.where(mask == 2, 255, 0).astype(np.uint8)
    sheet = label_sheet([sample(mask, (3, 7)), sample(ignored, ())], names, pictures, side=60, columns=1)
    cat, dog, cow = (sheet[row, column].astype(int) for row, column in ((7, 5), (7, 66), (25, 5)))
    assert len({*map(tuple, (cat, dog, cow))}) == 3, "the legend has two classes in a line"
    tinted = sheet[36:96, 62:]
    assert np.abs(tinted[10, 30] - (0.6 * cat + 40)).max() <= 1
    assert np.abs(tinted[30, 30] - (0.6 * dog + 40)).max() <= 1
    assert (tinted[50, 30] == 100).all()
    assert set(np.unique(sheet[36 + 100 + 22 : 36 + 100 + 38, 64:120])) == {90, 190}, "hatched"
    assert label_sheet([], names, pictures).dtype == np.uint8
    many = dict.fromkeys(range(1, 400), 1)
    assert label_sheet([], {}, many, side=60).shape[0] < 400, "a legend is bounded"


def test_contact_sheet_has_a_row_per_full_line() -> None:
    tiles = [(*picture(30, 40), f"tile {i}") for i in range(7)]
    wide, tall = contact_sheet(tiles, side=32, columns=7), contact_sheet(tiles, side=32, columns=1)
    assert wide.shape[1] > 7 * 32 > 32 <= tall.shape[1]
    assert tall.shape[0] > 7 * 64
    assert contact_sheet([], title="none").dtype == np.uint8


def test_the_legend_of_episodes_says_which_supports_are_left_out() -> None:
    assert episode_legend(3).startswith("left to right: supports, the query")
    assert episode_legend(5).startswith("left to right: 3 of the 5 supports, the query")


def test_episode_sheet_shows_a_correct_prediction_in_green() -> None:
    rgb, mask = picture(32, 32)
    view = EpisodeView(query=rgb, truth=mask, prediction=mask, supports=[(rgb, mask)], caption="dog 1.00")
    sheet = episode_sheet([view], side=32)
    right = sheet[:, -32:].reshape(-1, 3).astype(int)
    green = np.asarray(CORRECT) * 0.5 + 50
    assert (np.abs(right - green).max(axis=1) <= 1).sum() == mask.sum()
    assert png_bytes(sheet).startswith(b"\x89PNG")


def test_a_legend_of_other_words_keeps_the_colours() -> None:
    view = EpisodeView(query=picture(32, 32)[0], truth=picture(32, 32)[1], prediction=picture(32, 32)[1], supports=())
    words = tuple((colour, "kept") for colour, _ in EPISODE_COLOURS)
    usual, other = episode_sheet([view], side=200), episode_sheet([view], side=200, legend=words)
    assert usual.shape == other.shape and (usual[36:] == other[36:]).all() and (usual[:36] != other[:36]).any()
    assert (usual[3:14, 3:11] == other[3:14, 3:11]).all(), "the swatch"


def test_many_episodes_are_drawn_in_two_columns() -> None:
    rgb, mask = picture(32, 32)
    view = EpisodeView(query=rgb, truth=mask, prediction=mask, supports=[(rgb, mask)])
    one, two = episode_sheet([view] * 3, side=32), episode_sheet([view] * 5, side=32)
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] == 2 * one.shape[1] + 16
    assert (two[-30:, -50:] == 255).all(), "the sixth cell is empty"
