from .inference.predictor import load_segmenter as load_segmenter

__version__: str
