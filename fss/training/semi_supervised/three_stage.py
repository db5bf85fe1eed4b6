"""The three-stage framework: one stage's training, in plain torch.

Ke, Aviles-Rivero, Pandey, Reddy and Schoenlieb, "A Three-Stage Self-Training Framework for Semi-Supervised Semantic
Segmentation", IEEE TIP 31, 2022. Stage 1 learns from the labelled pictures alone and masks all pictures. Stage 2 starts
afresh with two heads: the main head g learns from the truth and from a moving-average teacher's answers, the auxiliary
head from the masks of stage 1, so that their noise never is a target of g; the teacher's main head masks all pictures
again. Stage 3 does the same on those masks with an auxiliary head that shares more of the network.

    for report in SemanticLoop(network, stream, config, stage=2).run(): ...
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from fss.core.arrays import IGNORE
from fss.models.semantic.config import Auxiliary
from fss.models.semantic.network import SemanticNetwork
from fss.training.ema import Ema
from fss.training.few_shot.loop import StepReport, TrainingDivergedError
from fss.training.schedule import schedule
from fss.training.semi_supervised.batches import PoolBatch, SemanticBatch, SemanticStream
from fss.training.semi_supervised.config import Stage, ThreeStageConfig
from fss.training.semi_supervised.losses import StageTargets, pixel_loss, stage_loss
from fss.training.semi_supervised.strong_augmentation import warp_labels

AUXILIARY_HEADS: dict[Stage, Auxiliary] = {1: "none", 2: "deep", 3: "shallow"}


@dataclass(frozen=True, kw_only=True)
class SemanticReport(StepReport):
    """What one step did; the parts of the loss are unweighted."""

    parts: dict[str, float]
    """supervised, and in stages 2 and 3 consistency and pseudo."""


class SemanticLoop:
    """A network, its optimiser, its teacher, and the position in the stream."""

    def __init__(
        self,
        model: nn.Module,
        stream: SemanticStream,
        config: ThreeStageConfig,
        *,
        stage: Stage,
        device: str | torch.device = "cpu",
    ):
        """Set up a stage.

        Args:
            model: a semantic network with the stage's auxiliary head, or one in DistributedDataParallel.
            stream: the stage's batches.
            config: the optimisation.
            stage: 1, 2 or 3.
            device: where the network is.
        """
        network = model.module if isinstance(model, DistributedDataParallel) else model
        assert isinstance(network, SemanticNetwork) and network.auxiliary == AUXILIARY_HEADS[stage]
        self.model, self.network, self.stream = model, network, stream
        self.config, self.stage, self.device = config, stage, torch.device(device)
        self.steps = config.stage(stage).steps
        groups = network.parameter_groups(config.learning_rate, config.backbone_learning_rate)
        self.optimizer = torch.optim.Adam(groups)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.ema = None if stage == 1 else Ema(network, config.teacher_decay(0), warm_up=False)
        self._start_at(0)

    def _start_at(self, step: int) -> None:
        self.step = step
        factor = partial(self.config.rate_factor, steps=self.steps)
        self.scheduler = schedule(self.optimizer, self._rates, factor, step=step)

    def run(self) -> Iterator[SemanticReport]:
        """Train from the present step to the last, yielding after each.

        Raises:
            TrainingDivergedError: naming the step and its images.
        """
        batches = self.stream.batches(self.step, self.steps)
        while self.step < self.steps:
            began = time.perf_counter()
            batch = next(batches)
            got = time.perf_counter()
            loss, gradient_norm, parts = self._train(batch.to(self.device))
            self.step += 1
            yield SemanticReport(
                step=self.step,
                epoch=(self.step - 1) // self.config.epoch_steps,
                loss=loss,
                gradient_norm=gradient_norm,
                wait_s=got - began,
                compute_s=time.perf_counter() - got,
                parts=parts,
            )

    def teacher_labels(self, labelled: Tensor, inside: Tensor, pool: PoolBatch) -> Tensor:
        """Return the teacher's hard answers, those for the pool moved as the student sees it: uint8 [B,H,W]."""
        assert self.ema is not None
        self.network.eval()
        with torch.no_grad():
            logits = functional_call(self.network, self.ema.average, (torch.cat([labelled, pool.pixels]),)).main
            confident, answers = logits.softmax(1).max(1) if self.config.confidence else (None, logits.argmax(1))
            answers = answers.to(torch.uint8)
            if confident is not None:
                answers[confident < self.config.confidence] = IGNORE
        count = len(labelled)
        own = torch.where(inside, answers[:count], torch.full_like(answers[:count], IGNORE))
        return torch.cat([own, warp_labels(answers[count:], pool.source)])

    def _train(self, batch: SemanticBatch) -> tuple[float, float, dict[str, float]]:
        labelled, pool = batch
        teacher = None if pool is None else self.teacher_labels(labelled.pixels, labelled.inside, pool)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        if pool is None or teacher is None:
            loss = pixel_loss(self.model(labelled.pixels).main, labelled.truth)
            parts = {"supervised": float(loss.mean)}
        else:
            main, auxiliary = self.model(torch.cat([labelled.pixels, pool.strong]))
            pseudo = torch.cat([labelled.pseudo, warp_labels(pool.pseudo, pool.source)])
            weights = self.config.loss_weights(self.step)
            loss, parts = stage_loss(main, auxiliary, StageTargets(labelled.truth, teacher, pseudo), weights)
        torch.autograd.backward(loss.local)
        gradient_norm = self._gradient()
        value = float(loss.mean)
        if not math.isfinite(value) or not math.isfinite(gradient_norm):
            raise TrainingDivergedError(
                f"step {self.step + 1}: the loss is {value} and the gradient's norm {gradient_norm}. Images: "
                f"{', '.join(labelled.ids + (pool.ids if pool else ()))}. Look at these, or lower the learning rates."
            )
        self.optimizer.step()
        self.scheduler.step()
        if self.ema is not None:
            self.ema.decay = self.config.teacher_decay(self.step)
            self.ema.update(self.network)
        return value, gradient_norm, parts

    def _gradient(self) -> float:
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return float(torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None]))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a stage needs to go on."""
        return {
            "step": self.step,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved stage was; the next step is the one after its last."""
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self._start_at(int(state["step"]))
