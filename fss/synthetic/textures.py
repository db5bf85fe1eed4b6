"""Surface patterns of the objects of the sample collection.

A pattern maps unit coordinates ``u, v`` (float32 ``[h, w]``, about [-1, 1] within the object) to the share of the
accent colour in [0, 1], float32 ``[h, w]``. ``soft`` is the size of a pixel in unit coordinates and the width of
edges, so patterns are anti-aliased. Phase, scale and proportions vary from call to call.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import Float32

Pattern = Callable[[Float32, Float32, float, np.random.Generator], Float32]


def _edge(distance: npt.NDArray[np.floating], soft: float) -> Float32:
    """Return 1 where ``distance`` is negative, 0 where it is positive, and a ramp of one and a half pixels between."""
    ramp: Float32 = np.clip(0.5 - distance / (1.5 * soft), 0.0, 1.0).astype(np.float32)
    return ramp


def _wave(position: npt.NDArray[np.floating], period: float, share: float, soft: float) -> Float32:
    """Return stripes across ``position``: ``share`` of every period is accent."""
    distance = np.abs((position / period) % 1.0 - 0.5) * period - 0.5 * share * period
    return _edge(distance, soft)


def _cells(
    u: Float32, v: Float32, size: float, rng: np.random.Generator, jitter: float
) -> tuple[Float32, Float32, Float32]:
    """Return offsets (du, dv) to the middle of each jittered cell, and one random number per cell."""
    column, row = np.floor(u / size).astype(np.int64), np.floor(v / size).astype(np.int64)
    table = rng.random((3, 64, 64), dtype=np.float32)
    drawn = table[:, row % 64, column % 64]
    du = (u / size - column - 0.5 - jitter * (drawn[0] - 0.5)) * size
    dv = (v / size - row - 0.5 - jitter * (drawn[1] - 0.5)) * size
    return du.astype(np.float32), dv.astype(np.float32), drawn[2]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Float32:
    """Return noise in about [-1, 1], float32 ``[height, width]``, with ``cells`` random values along each side."""
    grid = rng.uniform(-1.0, 1.0, (cells + 3, cells + 3)).astype(np.float32)
    # the outermost cells only stabilise the interpolation and are cropped
    large = cv2.resize(grid, (width + width * 2 // cells, height + height * 2 // cells), interpolation=cv2.INTER_CUBIC)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])


def facets(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Ten folded facets, light and dark in turn, around the middle."""
    angle = (np.arctan2(v, u) + np.pi / 2).astype(np.float32)
    return _edge(np.sin(5 * angle) * np.hypot(u, v) * np.float32(0.2), soft)


def dots(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Round spots of different sizes."""
    size = rng.uniform(0.38, 0.5)
    du, dv, drawn = _cells(u + rng.uniform(0, 1), v + rng.uniform(0, 1), size, rng, 0.35)
    return _edge(np.hypot(du, dv) - size * (0.2 + 0.14 * drawn), soft)


def scales(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Rows of overlapping scales, each with a bright rim."""
    size = rng.uniform(0.24, 0.32)
    column = np.floor(u / size)
    across = (v / size + 0.5 * (column % 2)) % 1.0 - 0.5
    along = (u / size) % 1.0
    distance = np.abs(np.hypot(across, along) - 0.62) * size - 0.16 * size
    return _edge(distance.astype(np.float32), soft)


def veins(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """A midrib along x with slanted side veins."""
    rib = _edge(np.abs(v) - np.float32(0.035), soft)
    side = _wave(u - np.abs(v) * rng.uniform(0.7, 1.1), rng.uniform(0.24, 0.32), 0.25, soft)
    return np.maximum(rib, side)


def bands(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Broad level bands."""
    return _wave(v + rng.uniform(0, 1), rng.uniform(0.38, 0.5), 0.5, soft)


def foliage(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Clumps of leaves: two scales of blotches."""
    height, width = u.shape
    fine = smooth_noise(rng, height, width, 13)
    coarse = smooth_noise(rng, height, width, 6)
    share: Float32 = np.clip(0.5 + 0.9 * fine + 0.5 * coarse, 0.0, 1.0)
    return share


def sprinkles(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Short strokes in all directions."""
    du, dv, drawn = _cells(u, v, rng.uniform(0.24, 0.3), rng, 0.4)
    angle = drawn * np.float32(np.pi)
    along, across = du * np.cos(angle) + dv * np.sin(angle), dv * np.cos(angle) - du * np.sin(angle)
    return _edge(np.maximum(np.abs(along) - np.float32(0.1), np.abs(across) - np.float32(0.035)), soft)


def wings(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Dark veins that fan out from the body, and a dark hem with spots."""
    angle, radius = np.arctan2(v, np.abs(u)), np.hypot(u, v)
    fan = _edge((np.abs((angle * 2.2 + 10) % 1.0 - 0.5) - 0.09) * radius, soft)
    du, dv, _ = _cells(u, v, 0.22, rng, 0.2)
    spots = _edge(np.hypot(du, dv) - 0.055, soft)
    share: Float32 = np.maximum(fan, _edge(rng.uniform(0.76, 0.84) - radius, soft) * (1 - spots))
    return share


def brushed(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Turned metal: fine grooves around the middle, and two bright sectors."""
    radius = np.hypot(u, v)
    grooves = 0.5 + 0.5 * np.sin(radius * np.float32(rng.uniform(38, 48)))
    shine = np.cos(2 * (np.arctan2(v, u) - np.float32(rng.uniform(0, np.pi)))) ** 2
    return (0.45 * grooves + 0.55 * shine).astype(np.float32)


def bricks(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Courses of bricks: the accent is the mortar."""
    height = rng.uniform(0.2, 0.26)
    row = np.floor(v / height)
    level = np.abs((v / height) % 1.0 - 0.5) * height
    upright = np.abs((u / (2.2 * height) + 0.5 * (row % 2)) % 1.0 - 0.5) * 2.2 * height
    joint = np.float32(0.025)
    return np.maximum(
        _edge((0.5 * height - level).astype(np.float32) - joint, soft),
        _edge((1.1 * height - upright).astype(np.float32) - joint, soft),
    )


def craters(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Hollows with a soft rim, large and small."""
    total = np.zeros_like(u)
    for size, radius in ((0.5, 0.3), (0.24, 0.28)):
        du, dv, drawn = _cells(u + rng.uniform(0, 1), v + rng.uniform(0, 1), size, rng, 0.4)
        distance = np.hypot(du, dv) / (size * radius * (0.6 + 0.6 * drawn))
        total = np.maximum(total, np.clip(1.6 - 1.4 * distance, 0.0, 1.0))
    return total


def rays(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Many fine rays from the middle, as on a petal."""
    angle, radius = np.arctan2(v, u), np.hypot(u, v)
    fade = np.clip(1.25 - radius, 0.0, 1.0)
    return ((0.5 + 0.5 * np.sin(angle * np.float32(rng.integers(20, 27)))) * fade).astype(np.float32)


def glass(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Upright reflections, and a label's zigzag line."""
    shine = np.exp(-(((u + rng.uniform(0.12, 0.22)) / 0.07) ** 2)) + 0.6 * np.exp(-(((u - 0.25) / 0.05) ** 2))
    period = rng.uniform(0.2, 0.26)
    zigzag = np.abs(((u / period) % 1.0) - 0.5) * period
    for level in (0.25, 0.5):
        shine = shine + _edge(np.abs(v - level - zigzag) - 0.04, soft)
    share: Float32 = np.clip(shine, 0.0, 1.0)
    return share


def hazard(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Slanted warning stripes."""
    return _wave(((u + v) * 0.7071 + rng.uniform(0, 1)).astype(np.float32), rng.uniform(0.34, 0.44), 0.5, soft)


def plaid(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """Woven checks."""
    period, shift = rng.uniform(0.32, 0.42), rng.uniform(0, 1)
    return (0.5 * (_wave(u + shift, period, 0.5, soft) + _wave(v + shift, period, 0.5, soft))).astype(np.float32)


def spiral(u: Float32, v: Float32, soft: float, rng: np.random.Generator) -> Float32:
    """A winding band from the middle outwards, crossed by faint growth lines."""
    angle, radius = np.arctan2(v, u).astype(np.float32) - np.float32(0.5), np.hypot(u, v)
    period = rng.uniform(0.3, 0.36)
    band = _wave((radius - angle / (2 * np.pi) * period).astype(np.float32), period, 0.4, soft)
    share: Float32 = 0.75 * band + 0.25 * (0.5 + 0.5 * np.sin(18 * angle))
    return share
