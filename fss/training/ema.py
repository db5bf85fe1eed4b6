"""An exponential moving average of the tensors that training changes: trainable parameters, and buffers of modules in
training mode.

torch's ``AveragedModel`` and timm's ``ModelEmaV3`` copy the whole model, frozen backbone included, and store the copy
in every checkpoint; :class:`Ema` holds only the tensors that change and uses torch's update.
"""

from collections.abc import Iterator, Mapping
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
            model: what is averaged; modules that stay in evaluation mode while it trains keep their buffers, which are
                left out.
            decay: of the average; ``decay`` may be set to another one between updates.
            warm_up: begin with smaller decays.

        Raises:
            ValueError: a decay outside [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the moving average lies within [0, 1), got {decay}")
        self.decay, self.warm_up = decay, warm_up
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in changing_tensors(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's values; whole numbers are copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        floating: tuple[list[Tensor], list[Tensor]] = [], []
        whole: tuple[list[Tensor], list[Tensor]] = [], []
        for name, value in _named_tensors(model, self.average):
            averages, values = floating if value.is_floating_point() else whole
            averages.append(self.average[name])
            values.append(value)
        if floating[0]:
            get_ema_multi_avg_fn(decay)(*floating, self.updates)  # type: ignore[no-untyped-call]
        if whole[0]:
            torch._foreach_copy_(*whole)

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
        for name, value in _named_tensors(model, self.average):
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
        saved: dict[str, Tensor] = state["average"]
        if self.average.keys() - saved.keys():
            raise ValueError("the saved moving average belongs to another model or other frozen parts; start anew")
        self.updates = int(state["updates"])
        for name, value in self.average.items():  # fss 0.2 also saved tensors that training does not change
            value.copy_(saved[name])


def changing_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield trainable parameters, and buffers of modules that are not in evaluation mode while the model trains."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter.data
    for prefix, module in model.named_modules():
        if module.training or not model.training:
            for name, buffer in module.named_buffers(prefix, recurse=False):
                yield name, buffer


def _named_tensors(model: nn.Module, names: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if name in names:
            yield name, parameter.data
    for name, buffer in model.named_buffers():
        if name in names:
            yield name, buffer
