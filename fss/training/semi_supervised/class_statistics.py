"""The shares of the classes in labels and masks, and what a training derives from them.

Class weights are ``frequency ** -p`` of the labelled pictures. A confidence by class follows FlexMatch (Zhang et al.,
NeurIPS 2021): a class that the masks of the stage before contain less often than the labels do is learnt badly, so its
predictions count from a lower probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fss.collection import MaskSet
from fss.collection.class_map import ClassTable
from fss.core.arrays import IGNORE
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import SemanticRows

Shares = tuple[float, ...]
"""Share of the labelled pixels by class number, with the sum 1."""


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """The class shares that the losses of a stage use; picklable."""

    truth: Shares | None = None
    """Shares in the labelled pictures. None: not needed."""
    masks: Shares | None = None
    """Shares in the masks of the stage before. None: not needed."""

    def class_weights(self, exponent: float) -> Tensor | None:
        """Return float32 [C], the class weights of the labelled loss; None if all classes count alike.

        A class without labels has weight 1, which no pixel gets.
        """
        if exponent == 0:
            return None
        assert self.truth is not None, "a stage with class weights has the shares of its labels"
        return torch.tensor([share**-exponent if share else 1.0 for share in self.truth])

    def confidences(self, confidence: float) -> Tensor:
        """Return float32 [C], the probability from which a prediction of each class counts."""
        assert self.truth is not None and self.masks is not None, "they are read for confidence_by_class"
        pairs = zip(self.masks, self.truth, strict=True)
        learnt = torch.tensor([min(1.0, mask / truth) if truth else 1.0 for mask, truth in pairs])
        return confidence * learnt / (2 - learnt)


NO_STATISTICS = ClassStatistics()
"""The statistics of a stage whose losses use none."""


def truth_shares(reader: SemanticReader, rows: SemanticRows, truth: MaskSet) -> Shares:
    """Return the class shares of the labelled pictures, at the size of the reader."""
    counts = np.zeros(IGNORE + 1, np.int64)
    for part, numbers in enumerate(rows.labelled):
        for row in numbers.tolist():
            counts += np.bincount(reader.labels(truth, part, row).ravel(), minlength=IGNORE + 1)
    return _shares(counts[: len(reader.table)])


def mask_shares(masks: MaskSet, table: ClassTable, truth: Shares) -> Shares:
    """Return the class shares of a mask set, from its columns of pixel counts, without decoding masks.

    The columns do not count the background, if it is no class of the collection; its share is that in ``truth``.
    """
    counts = dict.fromkeys(table.ids, 0)
    for _, part in masks.parts.tables(masks.collection.part_names(), ["classes"]):
        for classes in part.column("classes").to_pylist():
            for entry in classes or ():
                counts[entry["id"]] += entry["pixels"]
    shares = _shares(np.array([counts[class_id] for class_id in table.ids]))
    if not table.background:
        return shares
    return (truth[0], *((1 - truth[0]) * share for share in shares[1:]))


def _shares(counts: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> Shares:
    total = max(1, int(np.sum(counts)))
    return tuple(float(count) / total for count in counts)
