"""A training on photographs that fits the machine at hand."""

from typing import Annotated

from annotated_types import Ge

from fss.core.config import settings
from fss.core.system import available_cores, gpu_count

STEPS_PER_CORE = 800
"""Training steps per core without a GPU: about half an hour. A step of 16 episodes with a MobileNetV2 at 192 px takes
2.2 CPU seconds."""


@settings
class TrainingPlan:
    """The network of a training, and its length."""

    backbone: str
    """Backbone of the network."""
    image_size: Annotated[int, Ge(1)]
    """Side of the square that the network sees in training, in pixels."""
    steps: Annotated[int, Ge(1)]
    """Training steps."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Episodes per training step."""


PAPER = TrainingPlan(backbone="resnet50", image_size=400, steps=20_000)
"""MaskSplit's published size, batch and rate (Amac et al., WACV 2022) on a ResNet-50, for 20,000 of its 36,100 steps:
days without a GPU."""


def machine_plan() -> TrainingPlan:
    """Return the paper's settings where there is a GPU, and otherwise a light network that trains for half an hour."""
    if gpu_count():
        return PAPER
    return TrainingPlan(backbone="mobilenet_v2", image_size=192, steps=STEPS_PER_CORE * available_cores())
