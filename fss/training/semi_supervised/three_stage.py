"""The training loop of one stage of the three-stage framework, in plain PyTorch.

Ke, Aviles-Rivero, Pandey, Reddy and Schoenlieb, "A Three-Stage Self-Training Framework for Semi-Supervised Semantic
Segmentation", IEEE TIP 31, 2022. Stage 1 learns from the labelled pictures and predicts pseudo-labels for all pictures.
Stage 2 starts from new weights with two heads. The main head learns from the true labels and from the predictions of a
moving-average teacher. The auxiliary head learns from the pseudo-labels of stage 1, so that their noise never reaches
the main head. The teacher's main head then predicts new pseudo-labels. Stage 3 repeats stage 2 with these, and with an
auxiliary head that shares more layers with the main head.

    for report in SemanticLoop(network, stream, config, stage=2).run(): ...
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fss.models.config import Precision
from fss.models.precision import autocast
from fss.models.semantic.config import Auxiliary
from fss.models.semantic.network import LowerMaps, SemanticLogits, SemanticNetwork, concatenate
from fss.training.loop import Loop, StepLoss
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


class SemanticLoop(Loop[SemanticBatch]):
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
        groups = network.parameter_groups(config.learning_rate, config.backbone_learning_rate)
        super().__init__(model, torch.optim.Adam(groups), device=device)
        self.network, self.stream, self.config, self.stage = network, stream, config, stage
        self.precision, self.steps = precision, config.stage(stage).steps
        weights = statistics.class_weights(config.class_balance)
        self._class_weights = None if weights is None else weights.to(self.device)
        self.teacher: Teacher | None = None
        if stage > 1:
            confidence = config.confidence if config.confidence_by_class else None
            confidences = None if confidence is None else statistics.confidences(confidence)
            self.teacher = Teacher(network, config, device=self.device, precision=precision, confidences=confidences)
            self.ema = self.teacher.ema
        self.model.train()  # frozen layers are in evaluation mode before the stream encodes with them
        stream.encode_with(self._encode)
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.schedule(rates, partial(config.rate_factor, steps=self.steps))

    @property
    def done(self) -> bool:
        """Whether the stage has done its last step."""
        return self.step >= self.steps

    @property
    def epoch(self) -> int:
        """Number of the epoch of the next step, counted from 0."""
        return self.step // self.config.epoch_steps

    def _encode(self, pixels: Tensor) -> LowerMaps:
        maps = self.network.lower(pixels.to(self.device))
        return maps.to(torch.device("cpu"))  # the cache is in the machine's memory

    def batches(self) -> Iterator[SemanticBatch]:
        """Yield the batches from the next step on."""
        return self.stream.batches(self.step, self.steps)

    def backward(self, batch: SemanticBatch) -> StepLoss:
        """Compute the gradients of the stage's loss, and return its mean over the valid pixels of all workers."""
        labelled, pool = batch.to(self.device)
        loss, parts = self._labelled_loss(labelled) if pool is None else self._stage_loss(labelled, pool)
        torch.autograd.backward(loss.local)
        return StepLoss(loss.mean, labelled.ids + (pool.ids if pool else ()), parts)

    def updated(self) -> None:
        """Update the teacher."""
        if self.teacher is not None:
            self.teacher.update(self.step)

    def _labelled_loss(self, labelled: LabelledBatch) -> tuple[PixelLoss, dict[str, float]]:
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
        self.model.train()  # the teacher answers in evaluation mode
        main, auxiliary = self._predict(concatenate(labelled.pixels, strong))
        return stage_loss(
            main,
            auxiliary,
            StageTargets(labelled.truth, targets, torch.cat([labelled.pseudo, pseudo])),
            self.config.loss_weights(self.step),
            self._class_weights,
        )

    def _predict(self, pixels: Tensor | LowerMaps) -> SemanticLogits:
        with autocast(self.device, self.precision):
            logits: SemanticLogits = self.model(pixels)
        return logits
