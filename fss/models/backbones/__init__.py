"""Backbones that return feature maps of several levels."""
