"""The segmenter that a verb was asked for: its flags, and how it is opened."""

import sys
import warnings
from typing import TYPE_CHECKING, Literal

from fss.core.config import settings
from fss.models.config import Backend, Precision

if TYPE_CHECKING:
    from fss.inference.predictor import Predictor


@settings
class SegmenterFlags:
    """The segmenter of a verb."""

    model: str | None = None
    """Trained segmenter: its folder (runs/masksplit), an s3:// or MLflow URI, or a registered model's name. None:
    density, which needs no training."""
    backbone_weights: str | None = None
    """MobileNetV2's weights for density: a torch or safetensors file. None: the library's, which are downloaded."""
    saliency_prior: str | None = None
    """Saliency student for density: a student.safetensors of pipelines.train_saliency."""
    precision: Precision = "fp32"
    """Precision of the network: fp32, tf32 (NVIDIA GPUs) or bf16, which on a CPU is for the backbone alone and pays
    where the CPU has bfloat16 instructions."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on; auto takes a GPU if there is one."""
    tracking: str | None = None
    """MLflow's store, for its models. None: MLFLOW_TRACKING_URI, or the store in this directory."""


def open_segmenter(flags: SegmenterFlags, program: str, *, backend: Backend = "torch") -> tuple["Predictor", str]:
    """Load a trained segmenter, or build the one that needs no training.

    Args:
        flags: the segmenter.
        program: name of the verb, for messages.
        backend: what segments the pictures.

    Returns:
        The segmenter, and what it is in words.

    Raises:
        ValueError: the model does not exist or has weights of its own, or there are no weights.
    """
    from fss.inference.painted import PaintedModelWarning
    from fss.inference.predictor import load_segmenter, training_free_segmenter

    model, backbone_weights, saliency_prior = flags.model, flags.backbone_weights, flags.saliency_prior
    device = None if flags.device == "auto" else flags.device
    if model is not None:
        if backbone_weights or saliency_prior:
            raise ValueError(f"{model} contains its own weights; leave out --backbone-weights and --saliency-prior")
        with warnings.catch_warnings(action="ignore", category=PaintedModelWarning):
            predictor = load_segmenter(
                model, device=device, precision=flags.precision, backend=backend, tracking=flags.tracking
            )
        for note in predictor.notes:
            print(f"{program}: {note}", file=sys.stderr)
        return predictor, model
    weights = backbone_weights or "ImageNet weights"
    prior = f" and the saliency of {saliency_prior}" if saliency_prior else ""
    words = f"density, which needs no training, on MobileNetV2 ({weights}){prior}"
    print(f"no --model is given: the segmenter is {words}", flush=True)
    predictor = training_free_segmenter(
        backbone_weights=backbone_weights,
        saliency_prior=saliency_prior,
        device=device,
        precision=flags.precision,
        backend=backend,
    )
    return predictor, words
