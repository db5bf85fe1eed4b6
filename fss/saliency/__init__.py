"""Pseudo-masks of the salient object, without labels."""

from fss.saliency.classical.estimator import SaliencyEstimator, SaliencyResult
from fss.saliency.config import SaliencyConfig

__all__ = ["SaliencyConfig", "SaliencyEstimator", "SaliencyResult"]
