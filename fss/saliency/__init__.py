"""Saliency estimators: pseudo-masks of the salient object of an image, without labels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
