"""Few-shot segmentation from unlabelled photographs: pseudo-masks, label-free training, hybrid masking, relabels.

Names are imported on first use, so that ``import fss`` and the configuration modules load neither torch nor OpenCV.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
