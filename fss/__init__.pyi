from .inference.hub import push_to_hub as push_to_hub
from .inference.predictor import load_segmenter as load_segmenter

__version__: str
