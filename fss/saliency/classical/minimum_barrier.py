"""The minimum barrier distance cues MBD and MB+ (Zhang et al., ICCV 2015), which need no superpixels."""

import cv2
import numpy as np

from fss.core.arrays import Float32
from fss.saliency.classical._jit import jit
from fss.saliency.classical.graph_cues import EPS, min_max_scale


def minimum_barrier(lab: Float32, *, passes: int = 3) -> Float32:
    """Return the minimum barrier distance to the border, summed over the channels and scaled to 0..1, [H,W].

    The barrier of a path is the highest minus the lowest value on it. ``passes`` raster scans approximate the minimum.
    """
    total = np.zeros(lab.shape[:2], np.float32)
    for channel in range(3):
        total += _barrier(np.ascontiguousarray(lab[..., channel]), passes)
    return min_max_scale(total)


def border_contrast(lab: Float32, *, strip: float = 0.1) -> Float32:
    """Return the Mahalanobis distance to the colours of the border strips, without the farthest, [H,W] in 0..1.

    ``strip`` is the width of a strip as a share of the image's side.
    """
    height, width = lab.shape[:2]
    rows, columns = max(1, round(strip * height)), max(1, round(strip * width))
    strips = (lab[:rows], lab[-rows:], lab[:, :columns], lab[:, -columns:])
    flat = lab.reshape(-1, 3)
    maps = []
    for part in strips:
        colours = part.reshape(-1, 3)
        mean = colours.mean(0)
        covariance = np.cov(colours.T.astype(np.float64)) if len(colours) > 1 else np.zeros((3, 3))
        whiten = np.linalg.cholesky(np.linalg.inv(covariance + np.eye(3))).astype(np.float32)
        offset = (flat - mean) @ whiten
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        maps.append(distance / (distance.max() + EPS))
    stack = np.stack(maps)
    return min_max_scale((stack.sum(0) - stack.max(0)).reshape(height, width))


def centre_prior(height: int, width: int) -> Float32:
    """Return 1 at the centre, falling linearly with the distance to about 0.3 in the corners, [H,W]."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    x = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    return (1 - np.sqrt(y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)


def mb_plus(lab: Float32) -> Float32:
    """Return barrier distance plus border contrast, smoothed, centre-weighted and sharpened, [H,W] in 0..1."""
    height, width = lab.shape[:2]
    raw = minimum_barrier(lab) + border_contrast(lab)
    size = 2 * max(1, round(0.015 * (height + width) / 2)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    smooth = cv2.morphologyEx(raw, cv2.MORPH_CLOSE, kernel)
    smooth = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, kernel)
    shaped = min_max_scale(np.asarray(smooth, np.float32)) * centre_prior(height, width)
    shaped = min_max_scale(shaped)
    if not shaped.any():
        return shaped
    return min_max_scale(1 / (1 + np.exp(-10 * (shaped - 0.5))))


@jit
def _barrier(image: Float32, passes: int) -> Float32:
    height, width = image.shape
    distance = np.full((height, width), np.inf, np.float32)
    distance[0, :] = 0
    distance[-1, :] = 0
    distance[:, 0] = 0
    distance[:, -1] = 0
    upper, lower = image.copy(), image.copy()
    for scan in range(passes):
        step = 1 if scan % 2 == 0 else -1
        for row in range(1, height - 1):
            y = row if step == 1 else height - 1 - row
            for column in range(1, width - 1):
                x = column if step == 1 else width - 1 - column
                value = image[y, x]
                best = distance[y, x]
                for side in range(2):
                    r = y - step if side == 0 else y
                    c = x if side == 0 else x - step
                    high = max(upper[r, c], value)
                    low = min(lower[r, c], value)
                    if high - low < best:
                        best = high - low
                        upper[y, x] = high
                        lower[y, x] = low
                distance[y, x] = best
    return distance
