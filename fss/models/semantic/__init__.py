"""Semantic segmentation networks for the three-stage framework."""
