"""The teacher of stages 2 and 3: a moving average of the student, whose predictions the student learns."""

import torch
from torch import Tensor
from torch.func import functional_call

from fss.core.arrays import IGNORE
from fss.models.config import Precision
from fss.models.precision import autocast
from fss.models.semantic.network import LowerMaps, SemanticNetwork, concatenate
from fss.training.ema import Ema
from fss.training.semi_supervised.batches import LabelledBatch, PoolBatch
from fss.training.semi_supervised.config import ThreeStageConfig
from fss.training.semi_supervised.losses import TeacherTargets
from fss.training.semi_supervised.mixing import paste
from fss.training.semi_supervised.strong_augmentation import warp, warp_labels


class Teacher:
    """Predicts the targets of a step with the averaged weights."""

    def __init__(
        self,
        network: SemanticNetwork,
        config: ThreeStageConfig,
        *,
        device: torch.device,
        precision: Precision,
        confidences: Tensor | None = None,
    ):
        """Start the average at the student's present weights.

        Args:
            network: the student.
            config: decays, target and confidence.
            device: device of the network.
            precision: precision of the passes.
            confidences: float [C], the least probability by class; None: ``config.confidence`` for all classes.
        """
        self.network, self.config, self.device, self.precision = network, config, device, precision
        self.ema = Ema(network, config.teacher_decay(0), warm_up=config.ema_warm_up)
        self._confidences = None if confidences is None else confidences.to(device)

    def update(self, step: int) -> None:
        """Move the average towards the student's weights, with the decay of a step."""
        self.ema.decay = self.config.teacher_decay(step)
        self.ema.update(self.network)

    def targets(self, labelled: LabelledBatch, pool: PoolBatch) -> TeacherTargets:
        """Return the targets for the labelled pictures, unless the pool alone learns from the teacher, and the pool.

        Those of the pool are warped like its strongly augmented pictures, and not mixed.
        """
        count = len(labelled.ids) if self.config.consistency_on == "all" else 0
        pictures = concatenate(labelled.pixels, pool.pixels) if count else pool.pixels
        labels, confidence, probabilities = self._predict(pictures)
        inside = torch.where(labelled.inside[:count], labels[:count], torch.full_like(labels[:count], IGNORE))
        weights = None
        if self.config.target == "confidence":
            squares = confidence.square()
            weights = torch.cat([squares[:count], warp(squares[count:], pool.source, 0)])
        if self.config.target == "soft":
            probabilities = torch.cat([probabilities[:count], warp(probabilities[count:], pool.source, 0)])
        return TeacherTargets(
            labels=torch.cat([inside, warp_labels(labels[count:], pool.source)]),
            weights=weights,
            probabilities=probabilities if self.config.target == "soft" else None,
        )

    def _predict(self, pictures: Tensor | LowerMaps) -> tuple[Tensor, Tensor, Tensor]:
        """Return classes, uint8 [B,H,W] with doubtful ones ignored, their probabilities [B,H,W], and all [B,C,H,W].

        If every answer counts alike, no probabilities are computed, and the logits stand in for both.
        """
        self.network.eval()
        with torch.no_grad():
            with autocast(self.device, self.precision):
                output = functional_call(self.network, self.ema.average, (pictures,))
            logits = output.main.float()
            if self.config.confidence is None and self.config.target == "hard":
                return logits.argmax(1).to(torch.uint8), logits, logits
            probabilities = logits.softmax(1)
            confidence, labels = probabilities.max(1)
            if self._confidences is not None:
                labels = labels.masked_fill(confidence < self._confidences[labels], IGNORE)
            elif self.config.confidence is not None:
                labels = labels.masked_fill(confidence < self.config.confidence, IGNORE)
            return labels.to(torch.uint8), confidence, probabilities


def mixed(targets: TeacherTargets, area: Tensor, partner: Tensor) -> TeacherTargets:
    """Return targets whose last pictures, the pool, are mixed like the pictures (see ``mixing.paste``)."""
    count = len(targets.labels) - len(area)

    def mix(values: Tensor | None) -> Tensor | None:
        return None if values is None else torch.cat([values[:count], paste(values[count:], area, partner)])

    labels = mix(targets.labels)
    assert labels is not None
    return TeacherTargets(labels, mix(targets.weights), mix(targets.probabilities))
