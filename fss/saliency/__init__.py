"""Pseudo-masks of the salient object, without labels."""

from fss.saliency.classical.estimator import SaliencyConfig, SaliencyEstimator, SaliencyResult

__all__ = ["SaliencyConfig", "SaliencyEstimator", "SaliencyResult"]
