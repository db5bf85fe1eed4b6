"""Few-shot segmentation from unlabelled photographs: pseudo-masks, label-free training, hybrid masking, relabels."""

__version__ = "0.1.0"
