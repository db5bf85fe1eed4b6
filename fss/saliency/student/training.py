"""Training of the saliency student on pseudo-masks, without labels.

As in DeepUSPS (Nguyen et al., NeurIPS 2019, section 3), the student learns noisy masks, the moving average of its
predictions over the epochs becomes the target of the next round, and each round starts with new weights. Differences
from the paper: one student for all cues; images weighted by the quality of their masks; averages that start after a
warm-up; a colour model and the bilateral solver in place of a CRF; and early stopping, of epochs and of rounds, by the
agreement of student and targets on held-out images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import Float32
from fss.core.rng import keyed_rng
from fss.models.config import Precision
from fss.models.saliency.network import SaliencyStudent
from fss.saliency.config import StudentTrainingConfig
from fss.saliency.student.data import StudentData
from fss.saliency.student.feature_maps import MapSource, batches
from fss.saliency.student.targets import next_targets

Report = Callable[[dict[str, float]], None]


@dataclass(kw_only=True)
class StudentTraining:
    """Result of a training."""

    agreement: list[float] = field(default_factory=list)
    """Mean IoU of student and target on the held-out images, for each epoch of all rounds."""
    rounds: list[int] = field(default_factory=list)
    """Number of epochs of each round."""
    predictions: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    """Moving average of the predictions in the last round, [N,S/4,S/4] in 0..1."""


def train_student(
    student: SaliencyStudent,
    data: StudentData,
    config: StudentTrainingConfig,
    *,
    precision: Precision = "fp32",
    report: Report | None = None,
) -> StudentTraining:
    """Train ``student`` in place.

    Args:
        student: the network; the maps of a frozen backbone are computed once.
        data: images at the student's size with their pseudo-masks.
        config: settings of the training.
        precision: precision of the arithmetic; with ``bf16`` the passes run under autocast.
        report: called after each epoch with round, epoch, loss and agreement.

    Raises:
        ValueError: the images have another size, or no held-out image has a mask of weight above 0.
    """
    if data.images.shape[1] != student.config.image_size:
        raise ValueError(
            f"images have the side {data.images.shape[1]}, but the student takes {student.config.image_size}"
        )
    count = len(data.images)
    order = keyed_rng(config.seed or 0, purpose="student.held_out").permutation(count)
    held_out = np.zeros(count, bool)
    held_out[order[: max(1, round(config.held_out * count))]] = True
    source = MapSource(student, data.images, precision)
    result = StudentTraining()
    targets, weights, best = data.targets, data.weights, -1.0
    for number in range(config.rounds):
        if number:
            student.restart((config.seed or 0) + number)
        round_ = _Round(student, source, targets, weights, held_out, config, number)
        views = round_.train(report)
        result.agreement += round_.agreement
        result.rounds.append(len(round_.agreement))
        result.predictions = views.mean(1)
        if round_.best < best + config.least_gain or number + 1 == config.rounds:
            break
        best = round_.best
        targets, weights = next_targets(data.images, views, share=config.share)
        if not (weights[held_out] > 0).any() or not (weights[~held_out] > 0).any():
            break  # no mask passes every gate, so there is nothing to train on or to hold out
    return result


def f_loss(probability: Tensor, target: Tensor, *, beta2: float) -> Tensor:
    """Return one minus the soft F-measure of each image (DeepUSPS, eq. 2), [B].

    Args:
        probability: prediction, [B,h,w] in 0..1.
        target: target, [B,h,w] in 0..1.
        beta2: beta squared, the weight of recall against precision.
    """
    hit = (probability * target).sum((1, 2))
    precision = (hit + 1e-5) / (probability.sum((1, 2)) + 1e-5)
    recall = (hit + 1e-5) / (target.sum((1, 2)) + 1e-5)
    return 1 - (1 + beta2) * precision * recall / (beta2 * precision + recall)


class _Round:
    """One round of training, from targets to averaged predictions."""

    def __init__(
        self,
        student: SaliencyStudent,
        source: MapSource,
        targets: Float32,
        weights: Float32,
        held_out: npt.NDArray[np.bool_],
        config: StudentTrainingConfig,
        number: int,
    ):
        self.student, self.source, self.weights, self.config, self.number = student, source, weights, config, number
        self.train_rows = np.flatnonzero((weights > 0) & ~held_out)
        self.held_out_rows = np.flatnonzero((weights > 0) & held_out)
        if not len(self.held_out_rows):
            raise ValueError("no held-out image has a trusted mask; give more images or a larger held_out")
        self.targets = targets > 0.5
        self.agreement: list[float] = []
        self.best = -1.0

    def train(self, report: Report | None) -> Float32:
        """Train until the last epoch or until agreement stalls; return the averaged predictions, [N,2,S/4,S/4]."""
        config = self.config
        optimiser = torch.optim.AdamW(_groups(self.student, config), weight_decay=config.weight_decay)
        steps = config.epochs * -(-len(self.train_rows) // config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        average, mass, since = np.zeros((len(self.targets), 2, *self.targets.shape[1:]), np.float32), 0.0, 0
        for epoch in range(config.epochs):
            loss = self._epoch(epoch, optimiser, schedule)
            counts = epoch >= config.warm_up
            views = self.source.predict(np.arange(len(average)) if counts else self.held_out_rows)
            masks = (views[self.held_out_rows] if counts else views).mean(1) > 0.5
            agreement = float(_iou(masks, self.targets[self.held_out_rows]).mean())
            self.agreement.append(agreement)
            if report:
                report({"round": self.number, "epoch": epoch, "loss": loss, "agreement": agreement})
            if not counts:
                continue
            average = config.average * average + (1 - config.average) * views
            mass = config.average * mass + 1 - config.average
            since = 0 if agreement > self.best + 1e-3 else since + 1
            self.best = max(self.best, agreement)
            if since >= config.patience:
                break
        unbiased: Float32 = (average / mass).astype(np.float32)
        return unbiased

    def _epoch(
        self, epoch: int, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
    ) -> float:
        """Train on every training image once; return the mean loss."""
        rng = keyed_rng(self.config.seed or 0, epoch=self.number * 1000 + epoch, purpose="student.order")
        self.student.train()
        losses = []
        for index in batches(rng.permutation(self.train_rows), self.config.batch_size):
            mirror = bool(rng.random() < 0.5)
            target = torch.from_numpy(self.targets[index].astype(np.float32)).to(self.source.device)
            logits = self.source.logits(index, mirror)
            loss = _loss(logits, target.flip(2) if mirror else target, self.weights[index], self.config)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))


def _loss(logits: Tensor, target: Tensor, weights: Float32, config: StudentTrainingConfig) -> Tensor:
    trust = torch.from_numpy(weights).to(logits.device)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
    each = entropy + config.f_weight * f_loss(logits.sigmoid(), target, beta2=config.beta2)
    return (each * trust).sum() / trust.sum().clamp_min(1e-6)


def _groups(student: SaliencyStudent, config: StudentTrainingConfig) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = [{"params": list(student.decoder.parameters()), "lr": config.learning_rate}]
    if not student.config.frozen:
        groups.append({"params": list(student.backbone.parameters()), "lr": config.backbone_learning_rate})
    return groups


def _iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the IoU of two masks for each image, [N], for masks [N,h,w]; 1 where both are empty."""
    union = (first | second).sum((1, 2))
    both = (first & second).sum((1, 2))
    return np.asarray(np.where(union > 0, both / np.maximum(union, 1), 1.0))
