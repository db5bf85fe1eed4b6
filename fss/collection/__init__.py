"""Photographs in parts and the mask sets that belong to them."""

from fss.collection.index import ClassIndex, Entry, ImageReader, Sample
from fss.collection.mask_set import TRUTH, Acceptance, MaskSet
from fss.collection.store import Collection

__all__ = ["TRUTH", "Acceptance", "ClassIndex", "Collection", "Entry", "ImageReader", "MaskSet", "Sample"]
