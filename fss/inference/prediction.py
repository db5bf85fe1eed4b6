"""The answer of a segmenter to a query."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import UInt8

UNSURE = 0.5
"""Confidence below which a mask is rather wrong than right."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for a query of H x W pixels."""

    mask: UInt8
    """uint8 [H,W]: 1 where the probability of the object is above 0.5, else 0; empty where the object is not found."""
    probability: NDArray[np.float32]
    """float32 [H,W] in 0..1, the probability of the object."""
    confidence: float
    """Expected IoU of the mask with the object, 0..1, before any refinement and any emptying (see
    :mod:`fss.models.confidence`); without a calibration of the model, what its own probabilities lead to expect."""
    presence: float
    """Probability that the object is in the query, 0..1, if that is as likely as not beforehand; 0.5 without a
    calibration of the model."""
    found: bool
    """Whether the presence reaches the threshold and some pixel is marked."""
    passes: int = 1
    """Passes of the query through the network: 1, one for the mirror image and one for each tile that was seen."""
