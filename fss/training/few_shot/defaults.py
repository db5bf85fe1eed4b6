"""A training on photographs that fits the machine at hand."""

from typing import Annotated

from annotated_types import Ge, MultipleOf

from fss.core.config import settings
from fss.core.system import available_cores, gpu_count

STEPS_PER_CORE = 800
"""Training steps per core without a GPU: 20 to 30 minutes. With a MobileNetV2 and a head of 64 channels, a step of 16
episodes at 192 px takes 1.5 CPU seconds, and 2.1 where two cores share their units. A head of 128 answers no better
(tests/benchmarks/README.md)."""


@settings
class TrainingPlan:
    """The network of a training, and its length."""

    backbone: str
    """Backbone of the network."""
    image_size: Annotated[int, Ge(1)]
    """Side of the square that the network sees in training, in pixels."""
    steps: Annotated[int, Ge(1)]
    """Training steps."""
    width: Annotated[int, Ge(32), MultipleOf(32)] = 128
    """Channels of MaskSplit's head, a multiple of 32."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Episodes per training step."""


PAPER = TrainingPlan(backbone="resnet50", image_size=400, steps=20_000)
"""MaskSplit's published size, batch and rate (Amac et al., WACV 2022) on a ResNet-50, for 20,000 of its 36,100 steps:
days without a GPU."""


def machine_plan() -> TrainingPlan:
    """Return the paper's settings where there is a GPU, otherwise a light network that trains for 20 to 30 minutes."""
    if gpu_count():
        return PAPER
    return TrainingPlan(backbone="mobilenet_v2", image_size=192, steps=STEPS_PER_CORE * available_cores(), width=64)
