"""Relabelling: a trained segmenter predicts the masks of its training images again, with other images as supports."""

from fss.relabel.config import RelabelConfig

__all__ = ["RelabelConfig"]
