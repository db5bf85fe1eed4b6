"""The training loop of few-shot segmentation, for any segmenter and any stream of episodes.

loop = TrainLoop(segmenter, stream, OptimizerConfig(steps=1000))
for report in loop.run(): ...
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fss.core.rng import keyed_rng
from fss.episodes.episode import EpisodeBatch, RawEpisodes
from fss.models.layers.dropout import EpisodeDropout2d
from fss.models.learners.base import Learner
from fss.models.precision import autocast
from fss.training.ema import Ema
from fss.training.few_shot.config import OptimizerConfig, rate_factor
from fss.training.few_shot.episode_stream import EpisodeStream
from fss.training.loop import Loop, StepLoss
from fss.training.losses import count_valid_pixels, cross_entropy_sum
from fss.training.workers import sum_over_workers, world_size


class TrainLoop(Loop[RawEpisodes]):
    """A segmenter with its optimiser, its moving average and the position in the stream."""

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
        self.stream, self.config, self.seed = stream, config, seed
        self.precision = config.precision
        """Precision of the passes; a backbone that is prepared for its own needs none."""
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("every parameter of the model is frozen, so that there is nothing to train")
        self._fused = torch.device(device).type == "cuda"  # elsewhere the fused kernel rounds otherwise, gains nothing
        optimizer = torch.optim.Adam(
            self.parameters, config.learning_rate, weight_decay=config.weight_decay, fused=self._fused or None
        )
        super().__init__(model, optimizer, device=device)
        self.segmenter, self.clip = self.module, config.clip
        self.model.train()
        self.ema: Ema = Ema(self.segmenter, config.ema)
        self._dropouts = [module for module in self.segmenter.modules() if isinstance(module, EpisodeDropout2d)]
        self.schedule([config.learning_rate], partial(rate_factor, config))

    @property
    def done(self) -> bool:
        """Whether the training has done its last step."""
        return self.step >= self.config.steps

    @property
    def epoch(self) -> int:
        """Number of the epoch of the next step, counted from 0."""
        return self.step // self.stream.steps_per_epoch

    def batches(self) -> Iterator[RawEpisodes]:
        """Yield the batches from the next step on."""
        epoch, start = divmod(self.step, self.stream.steps_per_epoch)
        while True:
            yield from islice(self.stream.batches(epoch, start), self.stream.steps_per_epoch - start)
            epoch, start = epoch + 1, 0

    def backward(self, batch: RawEpisodes) -> StepLoss:
        """Compute the gradients of the mean loss over the valid pixels of all workers, and return that mean."""
        episodes = batch.to(self.device).render(self.stream.image_size)
        return StepLoss(self._backward(episodes), episodes.ids)

    def updated(self) -> None:
        """Update the moving average."""
        self.ema.update(self.segmenter)

    def _backward(self, batch: EpisodeBatch) -> Tensor:
        pixels = count_valid_pixels(batch.target)
        total = torch.zeros((), device=self.device)
        passes = batch.chunks(self.config.accumulate)
        for number, part in enumerate(passes, start=1):
            with self._gradient_sync(last_pass=number == len(passes)):
                self._set_dropout_keys(part.ids)
                with autocast(self.device, self.precision):
                    logits = self.model(part.query, part.support_images, part.support_masks)
                loss = cross_entropy_sum(logits, part.target)
                (loss * world_size() / pixels).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return sum_over_workers(total) / pixels

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

    def optimizer_state(self, saved: dict[str, Any]) -> dict[str, Any]:
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
