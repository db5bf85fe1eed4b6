"""Small pictures with a known object."""

import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]


def disc(
    height: int = 120,
    width: int = 160,
    *,
    centre: tuple[float, float] = (0.5, 0.5),
    radius: float = 0.25,
    seed: int = 0,
) -> tuple[RGB, npt.NDArray[np.bool_]]:
    """A red disc on noisy green, and its mask; centre and radius are shares of the sides and of the shorter side."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[:height, :width]
    mask = (y - centre[0] * height) ** 2 + (x - centre[1] * width) ** 2 < (radius * min(height, width)) ** 2
    rgb = np.where(mask[..., None], [200, 60, 50], [60, 130, 70]) + rng.normal(0, 6, (height, width, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8), mask


def iou(found: npt.NDArray[np.uint8], truth: npt.NDArray[np.bool_]) -> float:
    return float(((found > 0) & truth).sum() / ((found > 0) | truth).sum())
