"""Superpixels, cues, barrier distance, solver and mask cleaning on inputs with known results."""

import numpy as np
import pytest
from scipy.sparse.csgraph import floyd_warshall

from fss.saliency.classical import graph_cues, minimum_barrier
from fss.saliency.classical.bilateral_solver import build_grid, solve
from fss.saliency.classical.cues import compute_cues
from fss.saliency.classical.refine import clean
from fss.saliency.classical.superpixels import Superpixels, close_loop, measure, segment, to_lab, two_ring
from tests.helpers.discs import disc


def superpixels() -> tuple[Superpixels, np.ndarray]:
    rgb, truth = disc()
    return segment(to_lab(rgb), segments=120, iterations=4, compactness=10), truth


def test_superpixels_are_connected_and_follow_the_disc() -> None:
    import cv2

    pixels, truth = superpixels()
    assert set(np.unique(pixels.labels)) == set(range(pixels.count))
    for label in range(pixels.count):
        count, _ = cv2.connectedComponents((pixels.labels == label).astype(np.uint8), connectivity=8)
        assert count == 2, f"superpixel {label} is in {count - 1} pieces"
    share = np.bincount(pixels.labels.ravel(), truth.ravel()) / np.bincount(pixels.labels.ravel())
    painted = pixels.paint(share.astype(np.float32)) > 0.5
    assert (painted == truth).mean() > 0.98


def test_graph_of_a_grid_segmentation() -> None:
    labels = np.repeat(np.repeat(np.arange(9, dtype=np.int32).reshape(3, 3), 4, 0), 4, 1)
    lab = np.repeat(labels[..., None].astype(np.float32), 3, 2)
    pixels = measure(lab, labels, 9)
    assert pixels.adjacency.sum(1).tolist() == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    assert pixels.border.tolist() == [True] * 4 + [False] + [True] * 4
    assert pixels.sides[0].tolist() == [True] * 3 + [False] * 6
    assert pixels.colour_distance[0, 8] == pytest.approx(8 * 3**0.5, rel=1e-5)
    assert two_ring(pixels.adjacency).sum() == 72, "in a 3 x 3 grid every pair is within two steps"
    assert close_loop(pixels.adjacency, pixels.border)[0, 8]


def test_all_pairs_agrees_with_scipy() -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    lengths = rng.random((40, 40)).astype(np.float32)
    lengths = np.where(rng.random((40, 40)) < 0.1, lengths, np.inf).astype(np.float32)
    lengths = np.minimum(lengths, lengths.T)
    np.fill_diagonal(lengths, 0)
    known = floyd_warshall(np.where(np.isfinite(lengths), lengths, 0))
    np.testing.assert_allclose(graph_cues._all_pairs(lengths), known, atol=1e-5)


@pytest.mark.parametrize("cue", ["rbd", "manifold_ranking", "markov_chain", "geodesic"])
def test_each_cue_is_higher_on_the_disc(cue: str) -> None:
    pixels, truth = superpixels()
    values = pixels.paint(getattr(graph_cues, cue)(pixels, graph_cues.build_graph(pixels)))
    assert values.min() >= 0 and values.max() <= 1
    assert values[truth].mean() > values[~truth].mean() + 0.4


def test_barrier_distance_of_a_plateau() -> None:
    lab = np.zeros((9, 9, 3), np.float32)
    lab[3:6, 3:6, 0] = 20
    lab[4, 4, 0] = 35
    barrier = minimum_barrier.minimum_barrier(lab)
    assert barrier[4, 4] == pytest.approx(1.0) and barrier[3, 3] == pytest.approx(20 / 35) and barrier[1, 1] == 0


def test_mb_plus_is_higher_on_the_disc() -> None:
    rgb, truth = disc()
    values = minimum_barrier.mb_plus(to_lab(rgb))
    assert values[truth].mean() > values[~truth].mean() + 0.5


def test_cues_of_a_flat_picture_are_zero() -> None:
    cues = compute_cues(np.full((60, 80, 3), 40, np.float32), segments=50, iterations=3, compactness=10)
    assert not cues.map.any()


def test_the_solver_keeps_constants_and_smooths_within_edges() -> None:
    rgb, truth = disc()
    grid = build_grid(to_lab(rgb), spatial=16, lightness=6, chroma=8)
    constant = np.full(len(grid.mass), 0.3)
    np.testing.assert_allclose(solve(grid, constant, np.ones_like(constant), strength=32.0), 0.3, atol=1e-6)
    rng = np.random.Generator(np.random.Philox(key=7))
    noisy = np.where(truth, 0.7, 0.3) + rng.normal(0, 0.3, truth.shape)
    target = grid.splat(noisy.astype(np.float32))
    smooth = grid.slice(solve(grid, target, np.ones_like(target), strength=8.0, iterations=25), *truth.shape)
    assert ((smooth > 0.5) == truth).mean() > 0.97 > ((noisy > 0.5) == truth).mean()


def test_the_solution_satisfies_the_linear_system() -> None:
    from fss.saliency.classical.bilateral_solver import _blur

    rgb, _ = disc(40, 50)
    grid = build_grid(to_lab(rgb), spatial=10, lightness=10, chroma=10)
    count = len(grid.mass)
    rng = np.random.Generator(np.random.Philox(key=8))
    target, confidence = rng.random(count), rng.random(count)
    solution = solve(grid, target, confidence, strength=4.0, iterations=400)

    def affinity(values: np.ndarray) -> np.ndarray:
        out = np.empty(count)
        _blur(grid.neighbours, grid.scale * values, out)
        return grid.scale * out

    left = 4.0 * (affinity(np.ones(count)) * solution - affinity(solution)) + confidence * grid.mass * solution
    np.testing.assert_allclose(left, confidence * grid.mass * target, atol=1e-3)


def test_clean_drops_specks_and_fills_holes() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:40, 10:40] = True
    mask[20:25, 20:25] = False
    mask[50:53, 50:53] = True
    cleaned = clean(mask)
    assert cleaned[22, 22] and not cleaned[51, 51] and cleaned.sum() == 900
    assert not clean(np.zeros((5, 5), bool)).any()
