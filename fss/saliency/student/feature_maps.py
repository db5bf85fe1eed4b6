"""The backbone's maps of a student's pictures: computed once where the backbone is frozen."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fss.core.arrays import Int64, UInt8
from fss.models.features import Features
from fss.saliency.student.network import SaliencyStudent
from fss.saliency.two_view import normalise_images


class MapSource:
    """Backbone maps of N pictures and of their mirror images.

    A frozen backbone's maps are kept as 16-bit floats: half a megabyte a picture for MobileNetV2 at 224.
    """

    def __init__(self, student: SaliencyStudent, images: UInt8):
        self.student, self.images = student, images
        self.device = next(student.parameters()).device
        frozen = student.config.frozen
        self.kept = {mirror: self._all(mirror) for mirror in (False, True)} if frozen else None

    def maps(self, index: Int64, mirror: bool) -> Features:
        """Backbone maps of the pictures ``index``, or of their mirror images."""
        if self.kept is None:
            return self._encode(self.images[index], mirror)
        chosen = torch.from_numpy(index)
        return [[stage[chosen].to(self.device).float()] for stage in self.kept[mirror]]

    @torch.no_grad()
    def predict(self, chosen: Int64) -> npt.NDArray[np.float32]:
        """The student's maps of some pictures and, turned back, of their mirror images: [n,2,S/4,S/4] in 0..1."""
        self.student.eval()
        found = []
        for index in batches(chosen, 64):
            plain, mirrored = (self.student.decode(self.maps(index, mirror)).sigmoid() for mirror in (False, True))
            found.append(torch.stack([plain, mirrored.flip(2)], 1).cpu().numpy())
        return np.concatenate(found)

    def _all(self, mirror: bool) -> list[Tensor]:
        self.student.eval()
        pieces = [self._encode(self.images[index], mirror) for index in batches(np.arange(len(self.images)), 32)]
        return [torch.cat([piece[stage][0].half().cpu() for piece in pieces]) for stage in range(len(pieces[0]))]

    def _encode(self, images: UInt8, mirror: bool) -> Features:
        pixels = torch.from_numpy(images).to(self.device)
        features: Features = self.student.backbone(normalise_images(pixels.flip(2) if mirror else pixels))
        return features


def batches(order: Int64, size: int) -> Iterator[Int64]:
    """Cut an order into pieces of ``size``; the last may be shorter."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
