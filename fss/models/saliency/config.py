"""The configuration of the saliency student."""

from typing import Annotated

import tyro
from annotated_types import Ge, MultipleOf

from fss.core.config import settings
from fss.core.privacy import Public


@settings
class StudentConfig:
    """Shape of the student."""

    backbone: Annotated[str, Public()] = "mobilenet_v2"
    """Backbone of the student: a built-in one, or a convolutional model or vision transformer of timm."""
    backbone_weights: str | None = None
    """Backbone weights: a torch or safetensors file (of several networks in it the one under "ema" or "teacher"), or
    "pretrained" to download the library's. None: random weights."""
    image_size: Annotated[int, Ge(64), MultipleOf(32)] = 224
    """Side of the square that pictures are resized to, in pixels; a multiple of 32."""
    width: Annotated[int, Ge(16), MultipleOf(16)] = 64
    """Channels of the decoder, a multiple of 16."""
    frozen: bool = True
    """Train the decoder alone, with the backbone's feature maps computed once."""
    seed: Annotated[int | None, tyro.conf.arg(name="init-seed")] = None
    """Seed of the decoder's initial weights. None: the job's seed, which is 0 by default."""
