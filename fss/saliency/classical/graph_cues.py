"""Four saliency cues on the superpixel graph; each returns one value in [0,1] per superpixel.

RBD (Zhu et al., CVPR 2014), MR (Yang et al., CVPR 2013), MC (Jiang et al., ICCV 2013), GS (Wei et al., ECCV 2012).
All are dense linear algebra on n x n matrices, n about 200. They use the border of the image in different ways, so
their agreement indicates how reliable they are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fss.core.arrays import BoolArray, Float32
from fss.saliency.classical._jit import jit
from fss.saliency.classical.superpixels import Superpixels, close_loop, two_ring

EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The graph that the four cues share; matrices are [n,n]."""

    looped: BoolArray
    """Two-ring neighbours, and all pairs of border superpixels."""
    ring: BoolArray
    """Two-ring neighbours."""
    geodesic: Float32
    """Least accumulated colour distance over paths of adjacent superpixels and pairs of border superpixels."""
    clip: float
    """CIELAB distance below which neighbours count as the same surface."""
    affinity: npt.NDArray[np.float64]
    """exp(-10 d) over the edges of ``looped``, where d is the colour distance scaled to 0..1 over these edges."""


def build_graph(pixels: Superpixels) -> Graph:
    """Build the shared graph of RBD, MR, MC and GS."""
    border = pixels.border
    distance = pixels.colour_distance
    nearest = np.where(pixels.adjacency, distance, np.inf).min(axis=1)
    finite = nearest[np.isfinite(nearest)]
    clip = float(finite.mean()) if len(finite) else 0.0
    edges = close_loop(pixels.adjacency, border)
    lengths = np.where(edges, np.maximum(distance - np.float32(clip), 0), np.float32(np.inf)).astype(np.float32)
    np.fill_diagonal(lengths, 0)
    ring = two_ring(pixels.adjacency)
    looped = close_loop(ring, border)
    return Graph(
        looped=looped,
        ring=ring,
        geodesic=_all_pairs(lengths),
        clip=clip,
        affinity=_affinity(distance, looped),
    )


def min_max_scale(values: Float32) -> Float32:
    """Scale values linearly to 0..1; constant values become all zeros."""
    low, high = float(values.min()), float(values.max())
    if high - low < EPS:
        return np.zeros_like(values, dtype=np.float32)
    return ((values - low) / (high - low)).astype(np.float32)


def boundary_connectivity(pixels: Superpixels, graph: Graph) -> npt.NDArray[np.float64]:
    """Return the contact of a region with the border divided by the root of its area (RBD, eq. 3-6), [n]."""
    sigma = min(max(3 * graph.clip, 5.0), 10.0)
    similar = np.exp(-(graph.geodesic.astype(np.float64) ** 2) / (2 * sigma**2))
    connectivity: npt.NDArray[np.float64] = similar[:, pixels.border].sum(1) / np.sqrt(similar.sum(1))
    return connectivity


def rbd(pixels: Superpixels, graph: Graph) -> Float32:
    """Robust background detection: background-weighted contrast and a quadratic optimisation (RBD, eq. 7-10), [n]."""
    connectivity = boundary_connectivity(pixels, graph)
    background = 1 - np.exp(-(connectivity**2) / 2)
    offset = pixels.position[:, None] - pixels.position[None]
    near = np.exp(-(offset.astype(np.float64) ** 2).sum(2) / (2 * 0.25**2))
    contrast = (pixels.colour_distance * near) @ background
    foreground = min_max_scale(contrast.astype(np.float32)).astype(np.float64)
    certain = connectivity > 3
    foreground[certain] = 0
    weight = np.where(certain, 1000.0, 5 * background)
    smooth = np.where(graph.ring, np.exp(-(pixels.colour_distance.astype(np.float64) ** 2) / 200) + 0.1, 0.0)
    system = np.diag(smooth.sum(1) + weight + foreground + EPS) - smooth
    return min_max_scale(np.linalg.solve(system, foreground).astype(np.float32))


def manifold_ranking(pixels: Superpixels, graph: Graph) -> Float32:
    """Rank by similarity to each side of the image, then by similarity to the resulting foreground (MR, section 4)."""
    affinity = graph.affinity
    ranking = np.linalg.inv(np.diag(affinity.sum(1) + EPS) - 0.99 * affinity)
    np.fill_diagonal(ranking, 0)
    unlike = np.ones(pixels.count)
    for side in pixels.sides:
        unlike *= 1 - min_max_scale((ranking @ side).astype(np.float32))
    query = unlike > unlike.mean()
    return min_max_scale((ranking @ query).astype(np.float32))


def markov_chain(pixels: Superpixels, graph: Graph) -> Float32:
    """Return the absorption time of a random walk that ends in a copy of the border (MC, section 3), [n]."""
    border = pixels.border.astype(np.float64)
    walk = np.where(graph.ring, graph.affinity, 0.0)
    np.fill_diagonal(walk, 1.0)
    total = walk.sum(1) + walk @ border
    system = np.eye(pixels.count) - walk / total[:, None]
    return min_max_scale(np.linalg.solve(system, np.ones(pixels.count)).astype(np.float32))


def geodesic(pixels: Superpixels, graph: Graph) -> Float32:
    """Return the shortest colour path to the border plus the saliency of the border superpixel (GS, section 3), [n]."""
    border = np.flatnonzero(pixels.border)
    among = np.sort(pixels.colour_distance[np.ix_(border, border)], axis=1)
    keep = max(1, round(0.3 * (len(border) - 1)))
    unusual = among[:, 1 : 1 + keep].mean(1) if len(border) > 1 else np.zeros(1, np.float32)
    unusual = np.maximum(unusual - graph.clip, 0)
    return min_max_scale((graph.geodesic[:, border] + unusual[None]).min(1))


def _affinity(distance: Float32, edges: BoolArray) -> npt.NDArray[np.float64]:
    lengths = distance[edges]
    low, high = (float(lengths.min()), float(lengths.max())) if len(lengths) else (0.0, 0.0)
    scaled = (distance.astype(np.float64) - low) / (high - low + EPS)
    return np.where(edges, np.exp(-10 * scaled), 0.0)


@jit
def _all_pairs(lengths: Float32) -> Float32:
    """Floyd-Warshall with an inner loop that vectorises.

    On the 200 superpixels of a photograph it takes 1.8 ms, ``scipy.sparse.csgraph.floyd_warshall`` 6.6 ms.
    """
    shortest = lengths.copy()
    count = len(shortest)
    for k in range(count):
        through = shortest[k]
        for i in range(count):
            first = shortest[i, k]
            if first < np.inf:
                row = shortest[i]
                for j in range(count):
                    row[j] = min(row[j], first + through[j])
    return shortest
