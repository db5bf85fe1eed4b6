"""The backbone's maps of the training images, computed once where the backbone is frozen."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fss.core.arrays import Int64, UInt8
from fss.models.config import Precision
from fss.models.features import Features
from fss.models.precision import autocast
from fss.models.saliency.network import SaliencyStudent
from fss.saliency.two_view import normalize_images


class MapSource:
    """Backbone maps of N images and of their mirror images.

    The maps of a frozen backbone are cached as 16-bit floats: half a megabyte per image for MobileNetV2 at 224 pixels.
    """

    def __init__(self, student: SaliencyStudent, images: UInt8, precision: Precision = "fp32"):
        self.student, self.images, self.precision = student, images, precision
        self.device = next(student.parameters()).device
        frozen = student.config.frozen
        self._cache = {mirror: self._all(mirror) for mirror in (False, True)} if frozen else None

    def maps(self, index: Int64, mirror: bool) -> Features:
        """Return the backbone maps of the images ``index``, or of their mirror images."""
        if self._cache is None:
            return self._encode(self.images[index], mirror)
        rows = torch.from_numpy(index)
        return [[stage[rows].to(self.device).float()] for stage in self._cache[mirror]]

    def logits(self, index: Int64, mirror: bool) -> Tensor:
        """Return the logits of the images ``index``, or of their mirror images, float32 [n,S/4,S/4]."""
        with autocast(self.device, self.precision):
            return self.student.decode(self.maps(index, mirror)).float()

    @torch.no_grad()
    def predict(self, rows: Int64) -> npt.NDArray[np.float32]:
        """Return the predictions for images and, mirrored back, for their mirror images: [n,2,S/4,S/4] in 0..1."""
        self.student.eval()
        predictions = []
        for index in batches(rows, 64):
            plain, mirrored = (self.logits(index, mirror).sigmoid() for mirror in (False, True))
            predictions.append(torch.stack([plain, mirrored.flip(2)], 1).cpu().numpy())
        return np.concatenate(predictions)

    def _all(self, mirror: bool) -> list[Tensor]:
        self.student.eval()
        pieces = [self._encode(self.images[index], mirror) for index in batches(np.arange(len(self.images)), 32)]
        return [torch.cat([piece[stage][0].half().cpu() for piece in pieces]) for stage in range(len(pieces[0]))]

    def _encode(self, images: UInt8, mirror: bool) -> Features:
        pixels = torch.from_numpy(images).to(self.device)
        with autocast(self.device, self.precision):
            features: Features = self.student.backbone(normalize_images(pixels.flip(2) if mirror else pixels))
        return features


def batches(order: Int64, size: int) -> Iterator[Int64]:
    """Yield consecutive batches of ``size`` elements of an order; the last may be shorter."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
