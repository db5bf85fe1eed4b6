"""Relabelling: a trained segmenter looks again at the masks that it learned from, with other pictures as witnesses."""

from fss.relabel.config import RelabelConfig

__all__ = ["RelabelConfig"]
