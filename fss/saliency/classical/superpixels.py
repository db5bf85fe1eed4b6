"""Superpixels and the graph that the cues share.

Superpixels are SLIC clusters (Achanta et al., TPAMI 2012) in CIELAB: k-means over colour and position, each centre
searching only its own surroundings, followed by a pass that makes every segment connected. At equal quality
``skimage.segmentation.slic`` takes 2.6 times as long (``tests/benchmarks/bench_slic.py``, 300 photographs of ECSSD).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import BoolArray, Float32, Int32
from fss.saliency.classical._jit import jit


@dataclass(frozen=True, kw_only=True)
class Superpixels:
    """The n superpixels of one image, with the measurements that the graph cues need."""

    labels: Int32
    """Superpixel of each pixel, [H,W] in 0..n-1."""
    colour: Float32
    """Mean CIELAB colour, [n,3] (L 0..100)."""
    position: Float32
    """Mean row and column as shares of the image's height and width, [n,2]."""
    sides: BoolArray
    """Whether each superpixel touches the top, bottom, left and right side, [4,n]."""
    adjacency: BoolArray
    """Whether two superpixels touch, corners included, [n,n]; false on the diagonal."""
    colour_distance: Float32
    """Euclidean CIELAB distance of the mean colours, [n,n]."""

    @property
    def count(self) -> int:
        """Number of superpixels n."""
        return len(self.colour)

    @property
    def border(self) -> BoolArray:
        """Whether each superpixel touches any side, [n]."""
        return np.asarray(self.sides.any(axis=0), np.bool_)

    def paint(self, values: Float32) -> Float32:
        """Copy one value per superpixel, [n], to the pixels, [H,W]."""
        painted: Float32 = values.astype(np.float32)[self.labels]
        return painted


def to_lab(rgb: npt.NDArray[np.uint8]) -> Float32:
    """Convert uint8 RGB [H,W,3] to float32 CIELAB [H,W,3] (L 0..100, a and b about -128..127)."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB), np.float32)


def segment(lab: Float32, *, segments: int, iterations: int, compactness: float) -> Superpixels:
    """Cut a CIELAB image into about ``segments`` connected superpixels and measure them.

    Args:
        lab: float32 [H,W,3].
        segments: how many superpixels to aim for.
        iterations: k-means passes.
        compactness: weight of position against colour; 10 is the usual value for L in 0..100.
    """
    height, width = lab.shape[:2]
    step = max(2.0, float(np.sqrt(height * width / segments)))
    labels = _cluster(lab, step, iterations, compactness)
    labels, count = _connect(labels, max(1, int(step * step / 4)))
    return measure(lab, labels, count)


def measure(lab: Float32, labels: Int32, count: int) -> Superpixels:
    """Measure a given segmentation, int32 [H,W] with labels 0..count-1, of a CIELAB image [H,W,3]."""
    height, width = labels.shape
    flat = labels.ravel()
    area = np.maximum(np.bincount(flat, minlength=count), 1)
    colour = np.stack([np.bincount(flat, lab[..., c].ravel(), count) / area for c in range(3)], 1)
    rows = np.repeat(np.arange(height) / height, width)
    columns = np.tile(np.arange(width) / width, height)
    position = np.stack([np.bincount(flat, rows, count) / area, np.bincount(flat, columns, count) / area], 1)
    sides = np.zeros((4, count), bool)
    for side, edge in enumerate((labels[0], labels[-1], labels[:, 0], labels[:, -1])):
        sides[side, edge] = True
    squares = (colour**2).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * colour @ colour.T, 0))
    np.fill_diagonal(distance, 0)
    return Superpixels(
        labels=labels,
        colour=colour.astype(np.float32),
        position=position.astype(np.float32),
        sides=sides,
        adjacency=_adjacent(labels, count),
        colour_distance=distance.astype(np.float32),
    )


def two_ring(adjacency: BoolArray) -> BoolArray:
    """Return neighbours and neighbours of neighbours, [n,n], false on the diagonal."""
    near = adjacency.astype(np.float32)
    ring: BoolArray = adjacency | (near @ near > 0)
    np.fill_diagonal(ring, False)
    return ring


def close_loop(adjacency: BoolArray, border: BoolArray) -> BoolArray:
    """Connect every pair of border superpixels, because the border is one connected background (RBD, MR), [n,n]."""
    joined: BoolArray = adjacency | (border[:, None] & border[None])
    np.fill_diagonal(joined, False)
    return joined


@jit
def _cluster(lab: Float32, step: float, iterations: int, compactness: float) -> Int32:
    height, width = lab.shape[0], lab.shape[1]
    grid_rows = max(1, round(height / step))
    grid_columns = max(1, round(width / step))
    count = grid_rows * grid_columns
    centres = np.zeros((count, 5), np.float32)
    labels = np.zeros((height, width), np.int32)
    for k in range(count):
        row = (k // grid_columns + 0.5) * height / grid_rows
        column = (k % grid_columns + 0.5) * width / grid_columns
        centres[k, 3], centres[k, 4] = row, column
        for c in range(3):
            centres[k, c] = lab[int(row), int(column), c]
    weight = np.float32((compactness / step) ** 2)
    reach = int(step) + 1
    nearest = np.empty((height, width), np.float32)
    sums = np.zeros((count, 6), np.float64)
    for _ in range(iterations):
        nearest[:] = np.inf
        for k in range(count):
            lightness, a, b, row, column = centres[k, 0], centres[k, 1], centres[k, 2], centres[k, 3], centres[k, 4]
            left, right = max(0, int(column) - reach), min(width, int(column) + reach + 1)
            for y in range(max(0, int(row) - reach), min(height, int(row) + reach + 1)):
                vertical = weight * (np.float32(y) - row) ** 2
                for x in range(left, right):
                    distance = (lab[y, x, 0] - lightness) ** 2 + (lab[y, x, 1] - a) ** 2 + (lab[y, x, 2] - b) ** 2
                    distance += vertical + weight * (np.float32(x) - column) ** 2
                    if distance < nearest[y, x]:
                        nearest[y, x] = distance
                        labels[y, x] = k
        sums[:] = 0
        for y in range(height):
            for x in range(width):
                k = labels[y, x]
                for c in range(3):
                    sums[k, c] += lab[y, x, c]
                sums[k, 3] += y
                sums[k, 4] += x
                sums[k, 5] += 1
        for k in range(count):
            if sums[k, 5] > 0:
                for c in range(5):
                    centres[k, c] = sums[k, c] / sums[k, 5]
    return labels


@jit
def _connect(labels: Int32, smallest: int) -> tuple[Int32, int]:
    """Give each connected piece its own label; a piece below ``smallest`` pixels joins the piece before it."""
    height, width = labels.shape
    connected = np.full((height, width), -1, np.int32)
    queue = np.empty((height * width, 2), np.int32)
    count = 0
    for y in range(height):
        for x in range(width):
            if connected[y, x] >= 0:
                continue
            neighbour = -1
            if x > 0:
                neighbour = connected[y, x - 1]
            elif y > 0:
                neighbour = connected[y - 1, x]
            own = labels[y, x]
            connected[y, x] = count
            queue[0, 0], queue[0, 1] = y, x
            head, tail = 0, 1
            while head < tail:
                row, column = queue[head, 0], queue[head, 1]
                head += 1
                for step_row, step_column in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    r, c = row + step_row, column + step_column
                    inside = 0 <= r < height and 0 <= c < width
                    if inside and connected[r, c] < 0 and labels[r, c] == own:
                        connected[r, c] = count
                        queue[tail, 0], queue[tail, 1] = r, c
                        tail += 1
            if tail < smallest and neighbour >= 0:
                for i in range(tail):
                    connected[queue[i, 0], queue[i, 1]] = neighbour
            else:
                count += 1
    return connected, count


@jit
def _adjacent(labels: Int32, count: int) -> BoolArray:
    height, width = labels.shape
    adjacency = np.zeros((count, count), np.bool_)
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            for step_row, step_column in ((0, 1), (1, 0), (1, 1), (1, -1)):
                r, c = y + step_row, x + step_column
                if r < height and 0 <= c < width:
                    other = labels[r, c]
                    if other != own:
                        adjacency[own, other] = True
                        adjacency[other, own] = True
    return adjacency
