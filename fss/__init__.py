"""Few-shot segmentation from unlabelled photographs: pseudo-masks, label-free training, hybrid masking, relabels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fss.inference.predictor import load_segmenter as load_segmenter

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is offered here only when it is asked for, so that ``import fss`` stays light."""
    if name == "load_segmenter":
        from fss.inference.predictor import load_segmenter

        return load_segmenter
    raise AttributeError(f"module 'fss' has no attribute {name!r}")
