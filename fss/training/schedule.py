"""Learning rates that are a function of the step alone, applied to an optimiser by torch."""

from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def schedule(optimizer: Optimizer, rates: Sequence[float], factor: Callable[[int], float], *, step: int) -> LambdaLR:
    """Set the rates of a step and return the scheduler whose ``step()`` sets those of the next one.

    Args:
        optimizer: one with a parameter group per rate.
        rates: the learning rate of each parameter group before any schedule.
        factor: the multiplier of all rates in a step.
        step: the step that the training is about to do, counted from 0.
    """
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["initial_lr"] = rate
    return LambdaLR(optimizer, factor, last_epoch=step - 1)
