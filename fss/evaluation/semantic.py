"""Dataset-level IoU of semantic segmentation: intersections and unions are summed over all pictures first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from fss.core.arrays import IGNORE
from fss.evaluation.metrics import LEVEL


class ConfusionMatrix:
    """How many pixels of each true class were said to be of each class."""

    def __init__(self, classes: int):
        self.counts: NDArray[np.int64] = np.zeros((classes, classes), np.int64)
        """[C, C]: true class, said class."""

    def add(self, prediction: Tensor | NDArray[np.uint8], target: Tensor | NDArray[np.uint8]) -> None:
        """Count pictures: class numbers of one shape each; pixels that are 255 in either are left out."""
        said, true = (torch.as_tensor(labels).flatten().long() for labels in (prediction, target))
        known = (said != IGNORE) & (true != IGNORE)
        classes = len(self.counts)
        pairs = torch.bincount(true[known] * classes + said[known], minlength=classes * classes)
        self.counts += pairs.view(classes, classes).cpu().numpy()

    def iou(self) -> NDArray[np.float64]:
        """Return the IoU of every class, nan for one that is neither true nor said anywhere."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.asarray(np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0))

    def miou(self) -> float:
        """Return the mean over the classes that occur; 0 where no pixel was counted."""
        known = self.iou()
        return float(np.nanmean(known)) if not np.isnan(known).all() else 0.0


class SeedInterval(NamedTuple):
    """A mean over runs, with the interval in which the true mean lies by Student's t."""

    mean: float
    low: float
    high: float


def seed_interval(values: Sequence[float]) -> SeedInterval:
    """Return mean and 95 % interval of one figure of several runs.

    Raises:
        ValueError: fewer than two runs.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs two runs or more, got {len(values)}")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * spread
    return SeedInterval(mean, mean - half, mean + half)
