"""Few-shot segmenters: backbones, masking strategies and the learners MaskSplit, HSNet, ASNet and VAT."""

from fss.models.checkpoint import load_checkpoint, load_published, save_checkpoint
from fss.models.config import SegmenterConfig
from fss.models.segmenter import FewShotSegmenter, create_segmenter

__all__ = [
    "FewShotSegmenter",
    "SegmenterConfig",
    "create_segmenter",
    "load_checkpoint",
    "load_published",
    "save_checkpoint",
]
