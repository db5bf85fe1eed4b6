"""The training loop in plain PyTorch. A subclass gives the batches and the loss; everything else is here.

    for report in loop.run():
        if report.step % 100 == 0:
            ...  # evaluate, save loop.state_dict(), log

The caller decides what happens between steps. The loop only trains and resumes.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fss.core.memory import keep_freed_memory
from fss.training.ema import Ema, changing_tensors
from fss.training.schedule import schedule

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The result of one step."""

    step: int
    """Number of the step, counted from 1."""
    epoch: int
    """Number of the epoch, counted from 0."""
    loss: float
    """Mean loss of all workers."""
    gradient_norm: float
    """Euclidean norm of the gradient before clipping."""
    wait_s: float
    """Seconds that this worker waited for data."""
    compute_s: float
    """Seconds for rendering, forward pass, backward pass and update."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Parts of the loss before weighting, for a loss of several."""


class StepLoss(NamedTuple):
    """The loss of a step whose gradients are computed."""

    mean: Tensor
    """Scalar without gradient: the mean over all workers."""
    ids: Sequence[str]
    """Ids of the images of the step."""
    parts: Mapping[str, float] = {}
    """Parts of the loss before weighting, for a loss of several."""


class TrainingDivergedError(RuntimeError):
    """The loss or the gradient is not a finite number."""


def check_finite(step: int, loss: float, gradient_norm: float, image_ids: Iterable[str]) -> None:
    """Check the loss and the gradient's norm of a step, counted from 1.

    Raises:
        TrainingDivergedError: one of them is not finite; the message names the step and its images.
    """
    if not math.isfinite(loss) or not math.isfinite(gradient_norm):
        raise TrainingDivergedError(
            f"step {step}: the loss is {loss} and the gradient's norm {gradient_norm}. Images: {', '.join(image_ids)}. "
            "Check these images, lower the learning rate, or clip the gradient."
        )


class Loop(ABC, Generic[Batch]):
    """A model with its optimiser and the position in its training."""

    clip: float | None = None
    """Largest norm of the gradient; None leaves it as it is."""
    ema: Ema | None = None
    """Moving average of the weights, if there is one."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, device: str | torch.device = "cpu"):
        """Prepare the first step; on a CPU the process keeps freed memory from now on (``fss.core.memory``).

        Args:
            model: a network on ``device``, optionally wrapped in DistributedDataParallel.
            optimizer: of the parameters to train.
            device: device of the network.
        """
        self.model = model
        self.module: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
        self.optimizer, self.device = optimizer, torch.device(device)
        self.step = 0
        if self.device.type == "cpu":
            keep_freed_memory()

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the training has done its last step."""

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Number of the epoch of the next step, counted from 0."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield the batches from the next step on."""

    @abstractmethod
    def backward(self, batch: Batch) -> StepLoss:
        """Compute the gradients of a batch, and return its loss."""

    def updated(self) -> None:
        """Do what follows the update of the weights in a step, which ``step`` does not count yet."""

    def run(self) -> Iterator[StepReport]:
        """Train from the current step to the last, and yield after each step.

        Raises:
            TrainingDivergedError: the loss or the gradient is not finite.
        """
        batches = self.batches()
        while not self.done:
            epoch, wait_start = self.epoch, time.perf_counter()
            batch = next(batches)
            compute_start = time.perf_counter()
            loss, gradient_norm, parts = self._train(batch)
            yield StepReport(
                step=self.step,
                epoch=epoch,
                loss=loss,
                gradient_norm=gradient_norm,
                wait_s=compute_start - wait_start,
                compute_s=time.perf_counter() - compute_start,
                parts=parts,
            )

    def _train(self, batch: Batch) -> tuple[float, float, Mapping[str, float]]:
        if not self.module.training:
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        step_loss = self.backward(batch)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        loss, gradient_norm = self._read(torch.stack([step_loss.mean, norm]))
        check_finite(self.step + 1, loss, gradient_norm, step_loss.ids)
        self.optimizer.step()
        self.scheduler.step()
        self.updated()
        self.step += 1
        return loss, gradient_norm, step_loss.parts

    @staticmethod
    def _read(values: Tensor) -> list[float]:
        """Return the values; only here the host waits for a GPU."""
        numbers: list[float] = values.tolist()
        return numbers

    def schedule(self, rates: Sequence[float], factor: Callable[[int], float]) -> None:
        """Let the learning rates be a function of the step, from the current step on.

        Args:
            rates: the learning rate of each parameter group before any schedule.
            factor: the multiplier of all rates in a step.
        """
        self._rates, self._factor = rates, factor
        self.scheduler: torch.optim.lr_scheduler.LRScheduler = schedule(self.optimizer, rates, factor, step=self.step)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to resume: step, optimiser state, moving average, and the weights that change.

        A frozen backbone is left out: the network that resumes has it already.
        """
        stored = self.module.state_dict().keys()  # without buffers that every network computes for itself
        return {
            "step": self.step,
            "model": {name: value for name, value in changing_tensors(self.module) if name in stored},
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state; the next step is the one after its last.

        Raises:
            ValueError: the state of another model, or of one with other frozen parts.
        """
        self.load_model(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(self.optimizer_state(state["optimizer"]))
        self.step = int(state["step"])
        self.schedule(self._rates, self._factor)

    def load_model(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the saved weights that change.

        Raises:
            ValueError: the weights are those of another model, or of one with other frozen parts.
        """
        self.model.train()  # which buffers change depends on the mode
        missing, unexpected = self.module.load_state_dict(tensors, strict=False)
        missing = sorted(dict(changing_tensors(self.module)).keys() & set(missing))
        if missing or unexpected:
            raise ValueError(
                f"the saved training is of another network: it lacks {missing[:3]} and has {unexpected[:3]} besides; "
                "resume with the settings of the training, or start anew"
            )

    def optimizer_state(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Return the saved state of the optimiser for this loop."""
        return saved
