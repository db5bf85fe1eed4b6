"""The training loop of one stage of the three-stage framework, in plain PyTorch.

Ke, Aviles-Rivero, Pandey, Reddy and Schoenlieb, "A Three-Stage Self-Training Framework for Semi-Supervised Semantic
Segmentation", IEEE TIP 31, 2022. Stage 1 learns from the labelled pictures and predicts pseudo-labels for all pictures.
Stage 2 starts from new weights with two heads. The main head learns from the true labels and from the predictions of a
moving-average teacher. The auxiliary head learns from the pseudo-labels of stage 1, so that their noise never reaches
the main head. The teacher's main head then predicts new pseudo-labels. Stage 3 repeats stage 2 with these, and with an
auxiliary head that shares more layers with the main head.

    for report in SemanticLoop(network, stream, config, stage=2).run(): ...
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fss.models.config import Precision
from fss.models.precision import autocast
from fss.models.semantic.config import Auxiliary
from fss.models.semantic.network import LowerMaps, SemanticLogits, SemanticNetwork, concatenate
from fss.training.ema import Ema
from fss.training.few_shot.loop import StepReport, check_finite
from fss.training.schedule import schedule
from fss.training.semi_supervised.batches import LabelledBatch, PoolBatch, SemanticBatch, SemanticStream
from fss.training.semi_supervised.class_statistics import NO_STATISTICS, ClassStatistics
from fss.training.semi_supervised.config import Stage, ThreeStageConfig
from fss.training.semi_supervised.losses import PixelLoss, StageTargets, pixel_loss, stage_loss
from fss.training.semi_supervised.mixing import classmix_area, of_partners, paste
from fss.training.semi_supervised.strong_augmentation import warp_labels
from fss.training.semi_supervised.teacher import Teacher, mixed

AUXILIARY_HEADS: dict[Stage, Auxiliary] = {1: "none", 2: "deep", 3: "shallow"}


def auxiliary_head(config: ThreeStageConfig, stage: Stage) -> Auxiliary:
    """Return the auxiliary head of a stage; there is none if the stage does not learn from masks."""
    return AUXILIARY_HEADS[stage] if config.uses_masks(stage) else "none"


@dataclass(frozen=True, kw_only=True)
class SemanticReport(StepReport):
    """The result of one step."""

    parts: dict[str, float]
    """Parts of the loss before weighting: supervised, and in stages 2 and 3 consistency and pseudo."""


class SemanticLoop:
    """A network with its optimiser, its teacher and the position in the stream."""

    def __init__(
        self,
        model: nn.Module,
        stream: SemanticStream,
        config: ThreeStageConfig,
        *,
        stage: Stage,
        statistics: ClassStatistics = NO_STATISTICS,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
    ):
        """Create the optimiser and, in stages 2 and 3, the teacher.

        Args:
            model: a semantic network with the auxiliary head of the stage, optionally in DistributedDataParallel.
            stream: the batches of the stage.
            config: the settings of the optimisation.
            stage: 1, 2 or 3.
            statistics: class shares, as far as ``config`` uses them.
            device: device of the network.
            precision: of the arithmetic; with ``bf16`` the passes of student and teacher run under autocast.
        """
        network = model.module if isinstance(model, DistributedDataParallel) else model
        assert isinstance(network, SemanticNetwork) and network.auxiliary == auxiliary_head(config, stage)
        self.model, self.network, self.stream = model, network, stream
        self.config, self.stage = config, stage
        self.device, self.precision = torch.device(device), precision
        self.steps = config.stage(stage).steps
        groups = network.parameter_groups(config.learning_rate, config.backbone_learning_rate)
        self.optimizer = torch.optim.Adam(groups)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        weights = statistics.class_weights(config.class_balance)
        self._class_weights = None if weights is None else weights.to(self.device)
        self.teacher: Teacher | None = None
        if stage > 1:
            confidence = config.confidence if config.confidence_by_class else None
            confidences = None if confidence is None else statistics.confidences(confidence)
            self.teacher = Teacher(network, config, device=self.device, precision=precision, confidences=confidences)
        self.model.train()  # frozen layers are in evaluation mode before the stream encodes with them
        stream.encode_with(self._encode)
        self._start_at(0)

    @property
    def ema(self) -> Ema | None:
        """The teacher's average; None in stage 1."""
        return None if self.teacher is None else self.teacher.ema

    def _encode(self, pixels: Tensor) -> LowerMaps:
        maps = self.network.lower(pixels.to(self.device))
        return maps.to(torch.device("cpu"))  # the cache is in the machine's memory

    def _start_at(self, step: int) -> None:
        self.step = step
        factor = partial(self.config.rate_factor, steps=self.steps)
        self.scheduler = schedule(self.optimizer, self._rates, factor, step=step)

    def run(self) -> Iterator[SemanticReport]:
        """Train from the current step to the last, and yield after each step.

        Raises:
            TrainingDivergedError: the loss or the gradient is not finite.
        """
        batches = self.stream.batches(self.step, self.steps)
        while self.step < self.steps:
            wait_start = time.perf_counter()
            batch = next(batches)
            compute_start = time.perf_counter()
            loss, gradient_norm, parts = self._train(batch.to(self.device))
            self.step += 1
            yield SemanticReport(
                step=self.step,
                epoch=(self.step - 1) // self.config.epoch_steps,
                loss=loss,
                gradient_norm=gradient_norm,
                wait_s=compute_start - wait_start,
                compute_s=time.perf_counter() - compute_start,
                parts=parts,
            )

    def _train(self, batch: SemanticBatch) -> tuple[float, float, dict[str, float]]:
        labelled, pool = batch
        loss, parts = self._labelled_loss(labelled) if pool is None else self._stage_loss(labelled, pool)
        torch.autograd.backward(loss.local)
        gradient_norm = self._gradient_norm()
        value = float(loss.mean)
        check_finite(self.step + 1, value, gradient_norm, labelled.ids + (pool.ids if pool else ()))
        self.optimizer.step()
        self.scheduler.step()
        if self.teacher is not None:
            self.teacher.update(self.step)
        return value, gradient_norm, parts

    def _labelled_loss(self, labelled: LabelledBatch) -> tuple[PixelLoss, dict[str, float]]:
        self._begin()
        loss = pixel_loss(self._predict(labelled.pixels).main, labelled.truth, self._class_weights)
        return loss, {"supervised": float(loss.mean)}

    def _stage_loss(self, labelled: LabelledBatch, pool: PoolBatch) -> tuple[PixelLoss, dict[str, float]]:
        assert self.teacher is not None, "stages 2 and 3 have a teacher"
        targets, area, strong = self.teacher.targets(labelled, pool), pool.area, pool.strong
        if (mix := self.stream.config.strong.mix) == "classmix":
            assert isinstance(strong, Tensor), "the settings refuse cached features"
            classes = targets.labels[len(targets.labels) - len(pool.ids) :]
            area = classmix_area(pool.draws, of_partners(classes, pool.partner))
            strong = paste(strong, area, pool.partner)
        pseudo = warp_labels(pool.pseudo, pool.source)
        if mix != "none":
            targets, pseudo = mixed(targets, area, pool.partner), paste(pseudo, area, pool.partner)
        self._begin()
        main, auxiliary = self._predict(concatenate(labelled.pixels, strong))
        return stage_loss(
            main,
            auxiliary,
            StageTargets(labelled.truth, targets, torch.cat([labelled.pseudo, pseudo])),
            self.config.loss_weights(self.step),
            self._class_weights,
        )

    def _begin(self) -> None:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)

    def _predict(self, pixels: Tensor | LowerMaps) -> SemanticLogits:
        with autocast(self.device, self.precision):
            logits: SemanticLogits = self.model(pixels)
        return logits

    def _gradient_norm(self) -> float:
        trainable = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return float(torch.nn.utils.get_total_norm([p.grad for p in trainable if p.grad is not None]))

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to resume the stage."""
        return {
            "step": self.step,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state; the next step is the one after its last."""
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self._start_at(int(state["step"]))
