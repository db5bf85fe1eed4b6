"""The saliency estimators: classical, student and transformer, behind one protocol."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fss.core.config import to_dict
from fss.core.extras import require
from fss.core.hashing import file_hash
from fss.core.system import require_device
from fss.models.config import Precision
from fss.saliency.classical.estimator import SaliencyEstimator, SaliencyResult
from fss.saliency.config import PRETRAINED, SaliencyConfig, StudentSettings, ViTSettings


class Estimator(Protocol):
    """An estimator of the salient object: image in; mask, soft map and quality scores out."""

    def estimate(self, rgb: npt.NDArray[np.uint8], *, image_id: str = "") -> SaliencyResult:
        """Segment the salient object of an RGB image, uint8 [H,W,3]; see ``SaliencyEstimator.estimate``."""


EstimatorSettings = SaliencyConfig | StudentSettings | ViTSettings


def create_estimator(settings: EstimatorSettings, *, device: str = "cpu", precision: Precision = "fp32") -> Estimator:
    """Create the estimator that belongs to the type of ``settings``; a network turns TF32 on or off in this process.

    Args:
        settings: settings of the classical estimator, the student or the transformer.
        device: where a network runs; the classical estimator runs on the CPU only.
        precision: precision of a network's arithmetic.

    Raises:
        ValueError: the settings or their files are invalid, the classical estimator got another device, or there is
            no such device or it does not have the precision.
    """
    if isinstance(settings, SaliencyConfig):
        if device != "cpu":
            raise ValueError(f"the classical estimator runs on the CPU, got device {device!r}; leave the device out")
        return SaliencyEstimator(settings)
    # Imported here, because the many processes of the classical estimator do not need torch.
    from fss.models.precision import set_precision

    require_device(device)
    set_precision(precision, device)
    if isinstance(settings, StudentSettings):
        from fss.models.saliency.network import load_student
        from fss.models.speed import prepare_inference
        from fss.saliency.student.estimator import StudentEstimator

        student = load_student(settings.path).to(device)
        return StudentEstimator(student, precision=prepare_inference(student, precision).autocast)
    require("timm", what="the saliency of a vision transformer")
    from fss.saliency.vit import ViTEstimator

    return ViTEstimator(**to_dict(settings), device=device, precision=precision)


def identity(settings: EstimatorSettings, precision: Precision = "fp32") -> dict[str, Any]:
    """Return the settings that identify a mask set; hashes of weight files replace their names.

    Raises:
        ValueError: a weight file does not exist.
    """
    values = to_dict(settings)
    if precision != "fp32":  # left out otherwise, so that mask sets of earlier versions resume
        values["precision"] = precision
    if isinstance(settings, StudentSettings):
        return {"student": file_hash(values.pop("path"), "student file"), **values}
    if isinstance(settings, ViTSettings) and settings.weights not in (None, PRETRAINED):
        values["weights"] = file_hash(str(settings.weights), "weights file")
    return values
