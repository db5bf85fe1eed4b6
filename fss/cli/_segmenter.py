"""Open the segmenter that a verb was asked for."""

import sys
import warnings
from typing import TYPE_CHECKING

from fss.models.config import Backend, Precision

if TYPE_CHECKING:
    from fss.inference.predictor import Predictor


def open_segmenter(
    program: str,
    *,
    model: str | None,
    backbone_weights: str | None,
    saliency_prior: str | None,
    device: str,
    precision: Precision,
    tracking: str | None,
    backend: Backend = "torch",
) -> tuple["Predictor", str]:
    """Load a trained segmenter, or build the one that needs no training.

    Args:
        program: name of the verb, for messages.
        model: the trained segmenter; None builds density.
        backbone_weights: weights for density; None takes the library's.
        saliency_prior: saliency student for density; None takes none.
        device: auto, cpu, cuda or mps.
        precision: precision of the network.
        tracking: MLflow's store, for its models.
        backend: what segments the pictures.

    Returns:
        The segmenter, and what it is in words.

    Raises:
        ValueError: the model does not exist or has weights of its own, or there are no weights.
    """
    from fss.inference.painted import PaintedModelWarning
    from fss.inference.predictor import load_segmenter, training_free_segmenter

    device_or_none = None if device == "auto" else device
    if model is not None:
        if backbone_weights or saliency_prior:
            raise ValueError(f"{model} contains its own weights; leave out --backbone-weights and --saliency-prior")
        with warnings.catch_warnings(action="ignore", category=PaintedModelWarning):
            predictor = load_segmenter(
                model, device=device_or_none, precision=precision, backend=backend, tracking=tracking
            )
        for note in predictor.notes:
            print(f"{program}: {note}", file=sys.stderr)
        return predictor, model
    weights = backbone_weights or "ImageNet weights"
    prior = f" and the saliency of {saliency_prior}" if saliency_prior else ""
    words = f"density, which needs no training, on MobileNetV2 ({weights}){prior}"
    print(f"without --model: {words}", flush=True)
    predictor = training_free_segmenter(
        backbone_weights=backbone_weights,
        saliency_prior=saliency_prior,
        device=device_or_none,
        precision=precision,
        backend=backend,
    )
    return predictor, words
