"""The training loop in plain PyTorch, for any segmenter and any stream of episodes.

    loop = TrainLoop(segmenter, stream, OptimizerConfig(steps=1000))
    for report in loop.run():
        if report.step % 100 == 0:
            ...  # evaluate, save loop.state_dict(), log

The caller decides what happens between steps. The loop only trains and resumes.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fss.core.rng import keyed_rng
from fss.episodes.episode import EpisodeBatch, RawEpisodes
from fss.models.layers.dropout import EpisodeDropout2d
from fss.models.learners.base import Learner
from fss.models.precision import autocast
from fss.training.ema import Ema, changing_tensors
from fss.training.few_shot.config import OptimizerConfig, rate_factor
from fss.training.few_shot.episode_stream import EpisodeStream
from fss.training.losses import count_valid_pixels, cross_entropy_sum
from fss.training.schedule import schedule
from fss.training.workers import sum_over_workers, world_size


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The result of one step."""

    step: int
    """Number of the step, counted from 1."""
    epoch: int
    """Number of the epoch, counted from 0."""
    loss: float
    """Mean cross-entropy over the valid pixels of all workers."""
    gradient_norm: float
    """Euclidean norm of the gradient before clipping."""
    wait_s: float
    """Seconds that this worker waited for data."""
    compute_s: float
    """Seconds for rendering, forward pass, backward pass and update."""


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


class TrainLoop:
    """A model with its optimiser, its moving average and the position in the stream."""

    def __init__(
        self,
        model: nn.Module,
        stream: EpisodeStream,
        config: OptimizerConfig,
        *,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ):
        """Create the optimiser and the moving average.

        Args:
            model: a segmenter on ``device``, optionally wrapped in DistributedDataParallel.
            stream: the episodes to train on.
            config: the settings of the optimisation.
            device: device of the model, where the episodes are rendered.
            seed: seed of dropout.

        Raises:
            ValueError: all parameters of the model are frozen.
        """
        self.model, self.stream, self.config = model, stream, config
        self.segmenter: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
        self.device, self.seed = torch.device(device), seed
        self.parameters = [p for p in self.segmenter.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("every parameter of the model is frozen, so that there is nothing to train")
        self._fused = self.device.type == "cuda"  # elsewhere the fused kernel rounds otherwise and gains nothing
        self.optimizer = torch.optim.Adam(
            self.parameters, config.learning_rate, weight_decay=config.weight_decay, fused=self._fused or None
        )
        self.model.train()
        self.ema = Ema(self.segmenter, config.ema)
        self._dropouts = [module for module in self.segmenter.modules() if isinstance(module, EpisodeDropout2d)]
        self._start_at(0)

    def _start_at(self, step: int) -> None:
        self.step = step
        factor = partial(rate_factor, self.config)
        self.scheduler = schedule(self.optimizer, [self.config.learning_rate], factor, step=step)

    def run(self) -> Iterator[StepReport]:
        """Train from the current step to the last, and yield after each step.

        Raises:
            TrainingDivergedError: the loss or the gradient is not finite.
        """
        while self.step < self.config.steps:
            epoch, start = divmod(self.step, self.stream.steps_per_epoch)
            batches = iter(self.stream.batches(epoch, start))
            for _ in range(start, min(self.stream.steps_per_epoch, start + self.config.steps - self.step)):
                wait_start = time.perf_counter()
                raw = next(batches)
                compute_start = time.perf_counter()
                loss, gradient_norm = self._train(raw)
                self.step += 1
                yield StepReport(
                    step=self.step,
                    epoch=epoch,
                    loss=loss,
                    gradient_norm=gradient_norm,
                    wait_s=compute_start - wait_start,
                    compute_s=time.perf_counter() - compute_start,
                )

    def _train(self, raw: RawEpisodes) -> tuple[float, float]:
        if not self.segmenter.training:
            self.model.train()
        batch = raw.to(self.device).render(self.stream.image_size)
        self.optimizer.zero_grad(set_to_none=True)
        mean_loss = self._backward(batch)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.config.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip, norm)
        loss, gradient_norm = self._read(torch.stack([mean_loss, norm]))
        check_finite(self.step + 1, loss, gradient_norm, batch.ids)
        self.optimizer.step()
        self.scheduler.step()
        self.ema.update(self.segmenter)
        return loss, gradient_norm

    def _backward(self, batch: EpisodeBatch) -> Tensor:
        """Compute the gradients of the mean loss over the valid pixels of all workers, and return that mean."""
        pixels = count_valid_pixels(batch.target)
        total = torch.zeros((), device=self.device)
        passes = batch.chunks(self.config.accumulate)
        for number, part in enumerate(passes, start=1):
            with self._gradient_sync(last_pass=number == len(passes)):
                self._set_dropout_keys(part.ids)
                with autocast(self.device, self.config.precision):
                    logits = self.model(part.query, part.support_images, part.support_masks)
                loss = cross_entropy_sum(logits, part.target)
                (loss * world_size() / pixels).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return sum_over_workers(total) / pixels

    @staticmethod
    def _read(values: Tensor) -> list[float]:
        """Return the values; only here the host waits for a GPU."""
        numbers: list[float] = values.tolist()
        return numbers

    def _set_dropout_keys(self, ids: Sequence[str]) -> None:
        """Let the masks of dropout depend on (seed, step, episode) alone."""
        if self._dropouts:
            rngs = (keyed_rng(self.seed, epoch=self.step, item=name, purpose="dropout") for name in ids)
            keys = torch.tensor([int(rng.integers(2**32)) for rng in rngs]).to(self.device, non_blocking=True)
            for module in self._dropouts:
                module.keys = keys

    def _gradient_sync(self, *, last_pass: bool) -> AbstractContextManager[None]:
        """Let the workers exchange gradients only in the last pass of a step."""
        if last_pass or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to resume: step, optimiser state, moving average, and the weights that change.

        A frozen backbone is left out: the segmenter that resumes has it already.
        """
        return {
            "step": self.step,
            "model": dict(changing_tensors(self.segmenter)),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state; the next step is the one after its last.

        Raises:
            ValueError: the state of another model, or of one with other frozen parts.
        """
        missing, unexpected = self.segmenter.load_state_dict(state["model"], strict=False)
        missing = sorted(dict(changing_tensors(self.segmenter)).keys() & set(missing))
        if missing or unexpected:
            raise ValueError(
                f"the saved training is of another network: it lacks {missing[:3]} and has {unexpected[:3]} besides; "
                "resume with the settings of the training, or start anew"
            )
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(self._optimizer_state(state["optimizer"]))
        self._start_at(int(state["step"]))

    def _optimizer_state(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Return the saved state for this device, without the parameters that no loss reaches, as fss 0.2 saved it."""
        (group,) = saved["param_groups"]
        learner = getattr(self.segmenter, "learner", None)
        unused = {f"learner.{name}" for name in learner.unused_parameters()} if isinstance(learner, Learner) else set()
        listed = [
            name not in unused for name, p in self.segmenter.named_parameters() if p.requires_grad or name in unused
        ]
        if len(group["params"]) != len(listed):
            listed = [True] * len(group["params"])
        kept = [number for number, keep in zip(group["params"], listed, strict=True) if keep]
        tensors = {new: saved["state"][old] for new, old in enumerate(kept) if old in saved["state"]}
        groups = [{**group, "params": list(range(len(kept))), "fused": self._fused or None, "foreach": None}]
        return {"state": tensors, "param_groups": groups}
