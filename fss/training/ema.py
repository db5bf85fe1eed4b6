"""An exponential moving average of the tensors that training changes: trainable parameters and buffers.

torch's ``AveragedModel`` and timm's ``ModelEmaV3`` copy the whole model, frozen backbone included, and store the copy
in every checkpoint; :class:`Ema` holds only the tensors that change and uses torch's update.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """A moving average beside a model; the decay may warm up, so that first random weights are soon forgotten."""

    def __init__(self, model: nn.Module, decay: float, *, warm_up: bool = True):
        """Start at the model's present values.

        Args:
            model: what is averaged.
            decay: of the average; ``decay`` may be set to another one between updates.
            warm_up: begin with smaller decays.

        Raises:
            ValueError: a decay outside [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the moving average lies within [0, 1), got {decay}")
        self.decay, self.warm_up = decay, warm_up
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in _changing(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's values; whole numbers are copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in _changing(model):
            if value.is_floating_point():
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        if averages:
            get_ema_multi_avg_fn(decay)(averages, values, self.updates)  # type: ignore[no-untyped-call]

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged values for the length of a block, then its own back."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, value in _changing(model):
            own = value.clone()
            value.copy_(self.average[name])
            self.average[name] = own

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes."""
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average.

        Raises:
            ValueError: the average of another model.
        """
        if state["average"].keys() != self.average.keys():
            raise ValueError("the saved moving average belongs to another model or other frozen parts; start anew")
        self.updates = int(state["updates"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)


def _changing(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter.data
    yield from model.named_buffers()
