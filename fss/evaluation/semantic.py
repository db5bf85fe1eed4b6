"""Dataset-level IoU of semantic segmentation: intersections and unions are summed over all images first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fss.core.arrays import IGNORE
from fss.evaluation.metrics import LEVEL


class ConfusionMatrix:
    """Pixel counts by true and predicted class."""

    def __init__(self, classes: int):
        self.counts: NDArray[np.int64] = np.zeros((classes, classes), np.int64)
        """int64 [C, C]: true class, predicted class."""

    def add(self, prediction: Tensor | NDArray[np.uint8], target: Tensor | NDArray[np.uint8]) -> None:
        """Add the pixels of images: class numbers of equal shape; pixels at 255 in either are not counted."""
        predicted, true = (torch.as_tensor(labels).flatten().long() for labels in (prediction, target))
        valid = (predicted != IGNORE) & (true != IGNORE)
        classes = len(self.counts)
        pairs = torch.bincount(true[valid] * classes + predicted[valid], minlength=classes * classes)
        self.counts += pairs.view(classes, classes).cpu().numpy()

    def iou(self) -> NDArray[np.float64]:
        """Return the IoU of every class, [C]; nan for a class that is neither true nor predicted anywhere."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.asarray(np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0))

    def miou(self) -> float:
        """Return the mean over the classes that occur; 0 where no pixel was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else 0.0


class SeedInterval(NamedTuple):
    """A mean over runs with the 95 % confidence interval of Student's t distribution."""

    mean: float
    low: float
    high: float


def seed_interval(values: Sequence[float]) -> SeedInterval:
    """Return the mean of a metric over runs with different seeds, and its 95 % interval.

    Raises:
        ValueError: there are fewer than two runs.
    """
    from scipy.stats import t as students_t  # half a second, which every worker would wait for

    if len(values) < 2:
        raise ValueError(f"an interval needs two runs or more, got {len(values)}")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(students_t.ppf((1 + LEVEL) / 2, len(values) - 1)) * spread
    return SeedInterval(mean, mean - half, mean + half)
