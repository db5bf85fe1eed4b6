"""Visualizations: sizes, colours and degenerate input."""

import numpy as np
import pytest

from fss.visualize import CORRECT, EpisodeView, contact_sheet, episode_sheet, fit, overlay, png_bytes


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return np.full((height, width, 3), 100, np.uint8), mask


def test_overlay_tints_only_the_mask() -> None:
    rgb, mask = picture(40, 60)
    out = overlay(rgb, mask)
    assert (out[mask == 0] == rgb[mask == 0]).all()
    assert (out[mask == 1] != rgb[mask == 1]).any(axis=1).all()


def test_overlay_rejects_another_size() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))


@pytest.mark.parametrize("size", [(50, 200), (200, 50), (1, 999)])
def test_fit_keeps_proportions_inside_the_square(size: tuple[int, int]) -> None:
    rgb, mask = fit(*picture(*size), 64)
    assert rgb.shape == (64, 64, 3)
    assert mask.shape == (64, 64)


def test_contact_sheet_has_a_row_per_full_line() -> None:
    tiles = [(*picture(30, 40), f"tile {i}") for i in range(7)]
    wide, tall = contact_sheet(tiles, side=32, columns=7), contact_sheet(tiles, side=32, columns=1)
    assert wide.shape[1] > 7 * 32 > 32 <= tall.shape[1]
    assert tall.shape[0] > 7 * 64
    assert contact_sheet([], title="none").dtype == np.uint8


def test_episode_sheet_shows_a_correct_prediction_in_green() -> None:
    rgb, mask = picture(32, 32)
    view = EpisodeView(query=rgb, truth=mask, prediction=mask, supports=[(rgb, mask)], caption="dog 1.00")
    sheet = episode_sheet([view], side=32)
    right = sheet[:, -32:].reshape(-1, 3).astype(int)
    green = np.asarray(CORRECT) * 0.5 + 50
    assert (np.abs(right - green).max(axis=1) <= 1).sum() == mask.sum()
    assert png_bytes(sheet).startswith(b"\x89PNG")


def test_many_episodes_are_drawn_in_two_columns() -> None:
    rgb, mask = picture(32, 32)
    view = EpisodeView(query=rgb, truth=mask, prediction=mask, supports=[(rgb, mask)])
    one, two = episode_sheet([view] * 3, side=32), episode_sheet([view] * 5, side=32)
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] == 2 * one.shape[1] + 16
    assert (two[-30:, -50:] == 255).all(), "the sixth cell is empty"
