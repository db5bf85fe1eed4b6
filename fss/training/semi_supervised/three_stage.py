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
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from fss.core.arrays import IGNORE
from fss.models.semantic.network import Auxiliary, SemanticNetwork
from fss.training.ema import Ema
from fss.training.few_shot.loop import StepReport, TrainingDivergedError
from fss.training.semi_supervised.batches import PoolBatch, SemanticBatch, SemanticStream
from fss.training.semi_supervised.losses import StageTargets, pixel_loss, stage_loss
from fss.training.semi_supervised.strong_augmentation import warp_labels

Stage = Literal[1, 2, 3]
AUXILIARY: dict[Stage, Auxiliary] = {1: "none", 2: "deep", 3: "shallow"}


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """How long a stage lasts, and what a step sees."""

    steps: int
    """Optimiser steps."""
    labelled: int
    """Labelled pictures in a step."""
    pool: int
    """Pictures of the pool in a step; none in stage 1."""


@dataclass(frozen=True, kw_only=True)
class ThreeStageConfig:
    """The optimisation of all stages; the defaults are the released ones, for Cityscapes."""

    first: StageConfig = StageConfig(steps=20_000, labelled=4, pool=0)
    """Stage 1."""
    second: StageConfig = StageConfig(steps=60_000, labelled=1, pool=4)
    """Stage 2."""
    third: StageConfig = StageConfig(steps=60_000, labelled=1, pool=4)
    """Stage 3."""
    learning_rate: float = 3e-5
    """Of Adam, for new layers."""
    backbone_learning_rate: float = 3e-6
    """Of Adam, for the backbone."""
    decay: Literal["constant", "poly"] = "constant"
    """How the rates fall: not at all, or by (1 - step / steps) ** 0.9."""
    supervised_weight: float = 0.5
    """Weight of the loss against the truth."""
    consistency_weight: float = 0.5
    """Weight of the mean of the losses against the teacher and against the masks of the stage before."""
    ema: tuple[tuple[int, float], ...] = ((0, 0.99), (20, 0.995), (40, 0.9975), (50, 0.999))
    """Decay of the teacher from an epoch on."""
    epoch_steps: int = 1000
    """Steps of such an epoch."""
    ramp_up: int = 0
    """Steps over which the weight of the teacher's answers grows, by exp(-5 (1 - r)^2); 0: at once, as released. In a
    short training the first answers are worth little."""
    confidence: float | None = None
    """Teacher's answers below this probability are ignored, and left out of the masks; none: all count."""

    def __post_init__(self) -> None:
        stages = (self.first, self.second, self.third)
        if min(min(stage.steps, stage.labelled) for stage in stages) < 1 or self.epoch_steps < 1:
            raise ValueError("steps, labelled pictures in a step, and epoch_steps are 1 or more in every stage")
        if self.first.pool or min(self.second.pool, self.third.pool) < 1:
            raise ValueError("stage 1 has no pool, stages 2 and 3 have one of 1 or more pictures in a step")
        if min(self.learning_rate, self.backbone_learning_rate, self.ramp_up) < 0:
            raise ValueError(
                "learning rates and ramp_up are 0 or more, got "
                f"{self.learning_rate}, {self.backbone_learning_rate} and {self.ramp_up}"
            )
        if not self.ema or self.ema[0][0] != 0 or any(not 0 <= decay < 1 for _, decay in self.ema):
            raise ValueError(f"ema lists (epoch, decay) from epoch 0 on, decays within [0, 1); got {self.ema}")
        if self.confidence is not None and not 0 <= self.confidence < 1:
            raise ValueError(f"confidence lies within [0, 1), got {self.confidence}")

    def stage(self, number: Stage) -> StageConfig:
        """Return the settings of a stage."""
        return {1: self.first, 2: self.second, 3: self.third}[number]

    def loss_weights(self, step: int) -> dict[str, float]:
        """Return the weights of the parts of the loss in a step of stages 2 and 3, counted from 0."""
        half = self.consistency_weight / 2
        grown = math.exp(-5 * (1 - step / self.ramp_up) ** 2) if step < self.ramp_up else 1.0
        return {"supervised": self.supervised_weight, "consistency": half * grown, "pseudo": half}

    def teacher_decay(self, step: int) -> float:
        """Return the teacher's decay in a step, counted from 0."""
        epoch = step // self.epoch_steps
        return max((start, decay) for start, decay in self.ema if start <= epoch)[1]

    def rate_factor(self, step: int, steps: int) -> float:
        """Return what the learning rates are multiplied with in a step, counted from 0."""
        return 1.0 if self.decay == "constant" else float((1 - step / steps) ** 0.9)


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
        assert isinstance(network, SemanticNetwork) and network.auxiliary == AUXILIARY[stage]
        self.model, self.network, self.stream = model, network, stream
        self.config, self.stage, self.device = config, stage, torch.device(device)
        self.steps = config.stage(stage).steps
        groups = network.parameter_groups(config.learning_rate, config.backbone_learning_rate)
        self.optimizer = torch.optim.Adam(groups)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.ema = None if stage == 1 else Ema(network, config.teacher_decay(0), warm_up=False)
        self.step = 0

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
            loss, gradient, parts = self._train(batch.to(self.device))
            self.step += 1
            yield SemanticReport(
                step=self.step,
                epoch=(self.step - 1) // self.config.epoch_steps,
                loss=loss,
                gradient=gradient,
                wait_s=got - began,
                compute_s=time.perf_counter() - got,
                parts=parts,
            )

    def teach(self, labelled: Tensor, inside: Tensor, pool: PoolBatch) -> Tensor:
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
        teacher = None if pool is None else self.teach(labelled.pixels, labelled.inside, pool)
        self.model.train()
        factor = self.config.rate_factor(self.step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
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
        gradient = self._gradient()
        value = float(loss.mean)
        if not math.isfinite(value) or not math.isfinite(gradient):
            raise TrainingDivergedError(
                f"step {self.step + 1}: the loss is {value} and the gradient's norm {gradient}. Images: "
                f"{', '.join(labelled.ids + (pool.ids if pool else ()))}. Look at these, or lower the learning rates."
            )
        self.optimizer.step()
        if self.ema is not None:
            self.ema.decay = self.config.teacher_decay(self.step)
            self.ema.update(self.network)
        return value, gradient, parts

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
        self.step = int(state["step"])
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
