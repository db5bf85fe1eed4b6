"""Backbones: image classifiers that return a pyramid of feature maps."""
