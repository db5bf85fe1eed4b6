"""The estimator of salient objects with a trained student; its results have the form of the classical estimator's."""

from collections.abc import Sequence

import torch

from fss.core.arrays import Rgb
from fss.models.config import Precision
from fss.models.precision import autocast
from fss.models.saliency.network import SaliencyStudent
from fss.saliency.classical.estimator import SaliencyResult
from fss.saliency.two_view import normalize_images, resize_images, result_of_views


class StudentEstimator:
    """Segments the salient object with a trained student; a drop-in for ``SaliencyEstimator``."""

    def __init__(
        self,
        student: SaliencyStudent,
        *,
        working_pixels: int = 67_500,
        refined: bool = True,
        precision: Precision = "fp32",
    ):
        """Wrap a trained student.

        Args:
            student: the trained network, on the device where it runs.
            working_pixels: size in pixels at which masks are refined.
            refined: whether masks follow the edges of the image, by one round of colour model and bilateral solver.
            precision: precision of the network's arithmetic.
        """
        self.student, self.precision = student.eval(), precision
        self.working_pixels = working_pixels
        self.refined = refined

    def estimate(self, rgb: Rgb, *, image_id: str = "") -> SaliencyResult:
        """Segment the salient object of an RGB image, uint8 [H,W,3]; see ``SaliencyEstimator.estimate``."""
        return self.estimate_batch([rgb])[0]

    @torch.no_grad()
    def estimate_batch(self, images: Sequence[Rgb]) -> list[SaliencyResult]:
        """Segment several images, uint8 [H,W,3] each, in one pass and one pass of their mirror images."""
        side = self.student.config.image_size
        batch = normalize_images(resize_images(images, side, side).to(next(self.student.parameters()).device))
        with autocast(batch.device, self.precision):
            plain, mirrored = self.student(batch), self.student(batch.flip(3))
        views = plain.float().sigmoid(), mirrored.float().sigmoid().flip(2)
        pairs = torch.stack(views, 1).cpu().numpy()
        return [
            result_of_views(rgb, views, working_pixels=self.working_pixels, refined=self.refined)
            for rgb, views in zip(images, pairs, strict=True)
        ]
