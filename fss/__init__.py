"""Few-shot segmentation from unlabelled photographs: pseudo-masks, self-supervised training, hybrid masking, self-training."""

__version__ = "0.1.0"
