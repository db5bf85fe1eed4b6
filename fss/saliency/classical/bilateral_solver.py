"""Edge-aware smoothing of a map on a bilateral grid: the fast bilateral solver (Barron and Poole, ECCV 2016).

Pixels that are close in position and colour share a vertex of a sparse five-dimensional grid. The smoothed map is
computed on these few thousand vertices, as the minimiser of

    lambda * sum_ij W_ij (x_i - x_j)^2 + sum_i c_i (x_i - t_i)^2

with a bistochastic bilateral affinity W, and then copied back to the pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fss.core.arrays import Float32, Float64, Int32
from fss.saliency.classical._jit import jit

CELLS = 64_000_000
"""Largest number of entries of the dense lookup table; cells grow until the table fits."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The n occupied vertices of the bilateral grid of one image."""

    vertex: Int32
    """Vertex of each pixel, [H*W]."""
    neighbours: Int32
    """Previous and next vertex along each of the five axes, [n,10]; -1 where there is none."""
    mass: Float64
    """Number of pixels per vertex, [n]."""
    colour: Int32
    """Colour cell of each vertex along L, a and b, [n,3]."""
    scale: Float64
    """Scaling that makes the blurred affinity bistochastic, [n]."""

    def splat(self, values: Float32) -> Float64:
        """Average pixel values, [H,W], per vertex, [n]."""
        return np.bincount(self.vertex, values.ravel(), len(self.mass)) / self.mass

    def slice(self, values: Float64, height: int, width: int) -> Float32:
        """Copy vertex values, [n], to the pixels, [H,W]."""
        return values.astype(np.float32)[self.vertex].reshape(height, width)


def build_grid(lab: Float32, *, spatial: float, lightness: float, chroma: float) -> Grid:
    """Build the grid of a CIELAB image, float32 [H,W,3].

    Args:
        lab: the image.
        spatial: side of a cell in pixels.
        lightness: side of a cell in units of L.
        chroma: side of a cell in units of a and b.
    """
    height, width = lab.shape[:2]
    low = np.array([lab[..., c].min() for c in range(3)], np.float32)
    span = np.array([lab[..., c].max() for c in range(3)], np.float32) - low
    sides = np.array([spatial, spatial, lightness, chroma, chroma], np.float64)
    while True:
        extent = np.array([height, width, *span], np.float64)
        dims = (extent / sides).astype(np.int64) + 1
        if int(dims.prod()) <= CELLS:
            break
        sides *= 1.5
    vertex, neighbours, colour = _index(lab, low, sides, dims)
    mass = np.bincount(vertex, minlength=len(colour)).astype(np.float64)
    scale = _bistochastic(neighbours, mass, 5)
    return Grid(vertex=vertex, neighbours=neighbours, mass=mass, colour=colour, scale=scale)


def solve(grid: Grid, target: Float64, confidence: Float64, *, strength: float, iterations: int = 6) -> Float64:
    """Smooth a map where its confidence is low, without crossing the edges of the image.

    Args:
        grid: the grid of the image.
        target: the map to smooth, [n].
        confidence: weight of the target for each pixel of a vertex, [n], at least 0.
        strength: lambda; a larger value smooths more.
        iterations: largest number of conjugate-gradient steps.

    Returns:
        The smoothed map, [n].
    """
    weight = confidence * grid.mass
    return _descend(grid.neighbours, grid.mass, grid.scale, weight, weight * target, target, strength, iterations)


@jit
def _index(lab: Float32, low: Float32, sides: Float64, dims: npt.NDArray[np.int64]) -> tuple[Int32, Int32, Int32]:
    height, width = lab.shape[0], lab.shape[1]
    table = np.full(dims[0] * dims[1] * dims[2] * dims[3] * dims[4], -1, np.int32)
    strides = np.ones(5, np.int64)
    for axis in range(3, -1, -1):
        strides[axis] = strides[axis + 1] * dims[axis + 1]
    vertex = np.empty(height * width, np.int32)
    cells = np.empty((height * width, 5), np.int32)
    cell = np.empty(5, np.int64)
    count = 0
    for y in range(height):
        cell[0] = int(y / sides[0])
        for x in range(width):
            cell[1] = int(x / sides[1])
            for c in range(3):
                cell[2 + c] = int((lab[y, x, c] - low[c]) / sides[2 + c])
            entry = 0
            for axis in range(5):
                entry += cell[axis] * strides[axis]
            if table[entry] < 0:
                table[entry] = count
                for axis in range(5):
                    cells[count, axis] = cell[axis]
                count += 1
            vertex[y * width + x] = table[entry]
    neighbours = np.full((count, 10), -1, np.int32)
    for k in range(count):
        entry = 0
        for axis in range(5):
            entry += cells[k, axis] * strides[axis]
        for axis in range(5):
            if cells[k, axis] > 0:
                neighbours[k, 2 * axis] = table[entry - strides[axis]]
            if cells[k, axis] + 1 < dims[axis]:
                neighbours[k, 2 * axis + 1] = table[entry + strides[axis]]
    return vertex, neighbours, cells[:count, 2:].copy()


@jit
def _blur(neighbours: Int32, values: Float64, out: Float64) -> None:
    for k in range(len(values)):
        total = 10.0 * values[k]
        for j in range(10):
            other = neighbours[k, j]
            if other >= 0:
                total += values[other]
        out[k] = total


@jit
def _bistochastic(neighbours: Int32, mass: Float64, iterations: int) -> Float64:
    scale = np.ones_like(mass)
    blurred = np.empty_like(mass)
    for _ in range(iterations):
        _blur(neighbours, scale, blurred)
        for k in range(len(mass)):
            scale[k] = np.sqrt(scale[k] * mass[k] / blurred[k])
    return scale


@jit
def _descend(
    neighbours: Int32,
    mass: Float64,
    scale: Float64,
    weight: Float64,
    right_side: Float64,
    start: Float64,
    strength: float,
    iterations: int,
) -> Float64:
    """Solve the linear system by conjugate gradients with a diagonal preconditioner, from ``start``."""
    count = len(mass)
    scaled, blurred, product = np.empty(count), np.empty(count), np.empty(count)
    total = np.empty(count)
    _blur(neighbours, scale, blurred)
    for k in range(count):
        total[k] = scale[k] * blurred[k]
    diagonal = strength * (total - 10.0 * scale * scale) + weight + 1e-6
    solution = start.copy()
    residual, direction = np.empty(count), np.zeros(count)
    previous = 1.0
    for step_number in range(iterations + 1):
        source = solution if step_number == 0 else direction
        for k in range(count):
            scaled[k] = scale[k] * source[k]
        _blur(neighbours, scaled, blurred)
        for k in range(count):
            product[k] = strength * (total[k] * source[k] - scale[k] * blurred[k]) + (weight[k] + 1e-6) * source[k]
        if step_number == 0:
            for k in range(count):
                residual[k] = right_side[k] + 1e-6 * start[k] - product[k]
        else:
            along = 0.0
            for k in range(count):
                along += direction[k] * product[k]
            if along <= 1e-30:
                break
            step = previous / along
            for k in range(count):
                solution[k] += step * direction[k]
                residual[k] -= step * product[k]
        current = 0.0
        for k in range(count):
            current += residual[k] * residual[k] / diagonal[k]
        if current < 1e-10:
            break
        ratio = 0.0 if step_number == 0 else current / previous
        for k in range(count):
            direction[k] = residual[k] / diagonal[k] + ratio * direction[k]
        previous = current
    return solution
