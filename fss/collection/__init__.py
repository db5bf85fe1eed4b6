"""Collections of images in parts, and their mask sets."""

from fss.collection.collection import Collection
from fss.collection.index import ClassIndex, Entry, ImageReader, Sample
from fss.collection.mask_set import TRUTH, Acceptance, MaskSet

__all__ = ["TRUTH", "Acceptance", "ClassIndex", "Collection", "Entry", "ImageReader", "MaskSet", "Sample"]
