"""How a segmenter is optimised: the settings, and the learning rate of every step."""

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "poly", "cosine"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a segmenter is trained; the defaults are MaskSplit's published ones, but for length and averaging."""

    steps: int = 1000
    """Optimiser steps in all."""
    learning_rate: float = 1e-4
    """Of Adam; what the schedule starts from."""
    schedule: Schedule = "constant"
    """How the rate falls to 0 over all steps: not at all, as (1 - t) ** 0.9 (poly), or along half a cosine."""
    warmup: int = 0
    """Steps over which the rate rises in a line from 0."""
    weight_decay: float = 1e-5
    """Of Adam, added to the gradient."""
    clip: float | None = None
    """Largest norm of the gradient; none leaves it."""
    ema: float = 0.999
    """Decay of the moving average of the weights; 0 follows the weights."""
    accumulate: int = 1
    """Passes that each worker's share of a batch is cut into, for memory; the result is the same."""
    precision: Precision = "fp32"
    """Numbers of the forward pass: fp32, or bf16 where that loses nothing (autocast)."""
    compile: bool = False
    """Compile backbone and learner: minutes at the start, faster steps on a GPU."""

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.learning_rate <= 0
            or self.weight_decay < 0
            or (self.clip is not None and self.clip <= 0)
        ):
            raise ValueError(
                "steps, learning_rate and clip are above 0 and weight_decay at least 0; got "
                f"{self.steps}, {self.learning_rate}, {self.clip} and {self.weight_decay}"
            )
        if self.accumulate < 1 or not 0 <= self.warmup <= self.steps:
            raise ValueError(
                f"accumulate is 1 or more and warmup lies within 0 and the steps ({self.steps}); "
                f"got {self.accumulate} and {self.warmup}"
            )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step, counted from 0; a function of the step alone, so a resumed training needs no more."""
    done = step / config.steps
    fall = {"constant": 1.0, "poly": math.pow(1 - done, 0.9), "cosine": (1 + math.cos(math.pi * done)) / 2}
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.learning_rate * rise * fall[config.schedule]
