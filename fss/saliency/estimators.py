"""Three ways to find the salient object, one contract: a picture in; mask, soft map and quality scores out."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fss.core.config import to_dict
from fss.core.hashing import file_hash
from fss.saliency.classical.estimator import SaliencyEstimator, SaliencyResult
from fss.saliency.config import PRETRAINED, SaliencyConfig, StudentSettings, ViTSettings


class Estimator(Protocol):
    """What every way of finding salient objects can do."""

    def estimate(self, rgb: npt.NDArray[np.uint8], *, image_id: str = "") -> SaliencyResult:
        """Find the salient object of uint8 RGB [H,W,3]; see ``SaliencyEstimator.estimate``."""


EstimatorSettings = SaliencyConfig | StudentSettings | ViTSettings


def create_estimator(settings: EstimatorSettings, *, device: str = "cpu") -> Estimator:
    """Build the estimator that the type of ``settings`` stands for.

    Args:
        settings: of the classical estimator, the student or the transformer.
        device: where a network runs; the classical estimator knows the CPU only.

    Raises:
        ValueError: settings or files that make no estimator, or a device for the classical one.
    """
    if isinstance(settings, SaliencyConfig):
        if device != "cpu":
            raise ValueError(f"the classical estimator runs on the CPU, got device {device!r}; leave the device out")
        return SaliencyEstimator(settings)
    # The networks bring torch with them, which the classical estimator's many processes do without.
    if isinstance(settings, StudentSettings):
        from fss.saliency.student.network import StudentEstimator, load_student

        return StudentEstimator(load_student(settings.path).to(device))
    from fss.saliency.vit import ViTEstimator

    return ViTEstimator(**to_dict(settings), device=device)


def identity(settings: EstimatorSettings) -> dict[str, Any]:
    """Return what names a mask set: all settings, and the contents of weight files in place of their names.

    Raises:
        ValueError: no such weight file.
    """
    values = to_dict(settings)
    if isinstance(settings, StudentSettings):
        return {"student": file_hash(values.pop("path"), "student file"), **values}
    if isinstance(settings, ViTSettings) and settings.weights not in (None, PRETRAINED):
        values["weights"] = file_hash(str(settings.weights), "weights file")
    return values
