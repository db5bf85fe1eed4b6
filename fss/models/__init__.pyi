from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import load_published as load_published
from .checkpoint import save_checkpoint as save_checkpoint
from .config import SegmenterConfig as SegmenterConfig
from .segmenter import FewShotSegmenter as FewShotSegmenter
from .segmenter import create_segmenter as create_segmenter
