"""Few-shot segmenters: backbones, masking strategies and the learners MaskSplit, HSNet, ASNet, VAT and density."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
