"""Refinement of masks along the edges of the image."""

import cv2
import numpy as np
import pytest

from fss.evaluation.boundary import boundary_f
from fss.relabel import RelabelConfig
from fss.relabel.edge_refinement import follow_edges, refine_outlines, shrink_to_working_size
from fss.relabel.labels import VoteSet, make_label


def large_disc() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of 200 x 212 pixels and its mask."""
    mask = np.zeros((200, 212), np.uint8)
    cv2.circle(mask, (110, 90), 55, 1, -1)
    rgb = np.random.default_rng(0).integers(90, 130, (*mask.shape, 3)).astype(np.uint8)
    rgb[mask == 1] = (220, 40, 40)
    return rgb, mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def coarse(mask: np.ndarray) -> np.ndarray:
    """Return the best prediction on a grid of 12 x 12 cells, on a canvas of 96 pixels."""
    cells = cv2.resize(mask.astype(np.float32), (12, 12), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cells, (96, 96), interpolation=cv2.INTER_LINEAR), np.float32)


def test_a_coarse_prediction_gets_the_border_of_the_object() -> None:
    rgb, mask = large_disc()
    soft = coarse(mask)
    before = cv2.resize(soft, (212, 200)) > 0.5
    sharp = follow_edges(soft, rgb)
    assert sharp.shape == (200, 212)
    assert iou(sharp > 0.5, mask == 1) > max(0.9, iou(before, mask == 1))


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.7])
def test_the_outline_at_the_threshold_follows_the_edges(threshold: float) -> None:
    """A network that is unsure of whole objects gives low probabilities, which relabelling cuts at a low threshold."""
    rgb, mask = large_disc()
    level = 2 * threshold if threshold < 0.5 else 1.0
    soft = level * coarse(mask)
    sharp = follow_edges(soft, rgb, threshold=threshold)
    before = iou(cv2.resize(soft, (212, 200)) > threshold, mask == 1)
    assert iou(sharp > threshold, mask == 1) > max(0.9, before)
    assert 0 <= sharp.min() <= sharp.max() <= 1
    votes = np.broadcast_to(soft, (2, 2, 96, 96))
    config = RelabelConfig(foreground=threshold, background=threshold)
    label = make_label(VoteSet(votes={1: votes}, earlier=(), current=None), mask.shape, config, rgb)
    assert iou(label.mask == 1, mask == 1) > max(0.9, before)


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_outlines_are_refined_at_the_size_of_the_photograph(scale: float) -> None:
    rgb, mask = (cv2.resize(each, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) for each in large_disc())
    soft = cv2.resize(coarse(mask), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    sharp = refine_outlines(soft, rgb)
    assert (sharp.shape, sharp.dtype) == (mask.shape, np.float32)
    assert boundary_f((sharp > 0.5).astype(np.uint8), mask) > max(0.9, boundary_f((soft > 0.5).astype(np.uint8), mask))


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_noise_of_the_colours_makes_neither_islands_nor_holes(threshold: float) -> None:
    """Pixels of the object's colour around it, and of the background's on it, as leaves before the sky are."""
    rgb, mask = large_disc()
    noisy = rgb.copy()
    for colour, size, side in (((220, 40, 40), 3, 0), ((110, 110, 110), 2, 1)):
        rows, columns = np.nonzero(cv2.dilate((mask != side).astype(np.uint8), np.ones((9, 9))) * (mask == side))
        for at in np.random.default_rng(side).choice(len(rows), 40, replace=False):
            cv2.rectangle(noisy, (columns[at], rows[at]), (columns[at] + size - 1, rows[at] + size - 1), colour, -1)
    level = 2 * threshold if threshold < 0.5 else 1.0
    soft = level * coarse(mask)
    sharp = refine_outlines(soft, noisy, threshold=threshold)
    assert (sharp.shape, sharp.dtype) == (mask.shape, np.float32) and 0 <= sharp.min() <= sharp.max() <= 1
    for side, connectivity in ((sharp > threshold, 8), (sharp <= threshold, 4)):
        _, _, statistics, _ = cv2.connectedComponentsWithStats(side.astype(np.uint8), connectivity=connectivity)
        assert len(statistics) == 2, "one object, and one background"
    assert iou(sharp > threshold, mask == 1) > 0.9


@pytest.mark.parametrize("radius", [2, 3])
def test_an_object_that_is_as_small_as_noise_stays(radius: int) -> None:
    mask = np.zeros((200, 212), np.uint8)
    cv2.circle(mask, (110, 90), radius, 1, -1)
    rgb = np.where(mask[..., None] == 1, np.uint8(220), np.uint8(90)).repeat(3, 2)
    sharp = refine_outlines(cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0), rgb)
    assert iou(sharp > 0.5, mask == 1) > 0.5


def test_a_map_without_an_object_stays_empty() -> None:
    assert not follow_edges(np.zeros((96, 96), np.float32), large_disc()[0]).any()


def test_a_large_image_shrinks_and_keeps_its_proportions() -> None:
    small = shrink_to_working_size(np.zeros((1000, 2000, 3), np.uint8))
    assert small.shape == (184, 367, 3)
    assert shrink_to_working_size(small).shape == small.shape


def test_a_label_with_a_guide_has_the_pictures_size_and_sharp_borders() -> None:
    rgb, mask = large_disc()
    votes = np.broadcast_to(coarse(mask), (2, 2, 96, 96))
    vote_set = VoteSet(votes={1: votes}, earlier=(), current=None)
    plain = make_label(vote_set, mask.shape, RelabelConfig())
    guided = make_label(vote_set, mask.shape, RelabelConfig(), rgb)
    assert guided.mask.shape == mask.shape
    assert (guided.mask == 255).mean() < (plain.mask == 255).mean()
    assert iou(guided.mask == 1, mask == 1) > iou(plain.mask == 1, mask == 1)
