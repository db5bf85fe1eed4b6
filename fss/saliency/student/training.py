"""Train the saliency student on pseudo-masks, without labels.

As in DeepUSPS (Nguyen et al., NeurIPS 2019, section 3): the student learns noisy masks, a moving average over epochs of
its predictions becomes the next round's target, and each round starts afresh. Ours: one student for all cues, images
weighted by the quality of their mask, averages that start after a warm-up, colour model and bilateral solver in place
of a CRF, and a stop, of epochs as of rounds, when student and targets agree no better on pictures kept out of training.
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
from fss.saliency.config import StudentTrainingConfig
from fss.saliency.student.data import StudentData
from fss.saliency.student.feature_maps import MapSource, batches
from fss.saliency.student.network import SaliencyStudent
from fss.saliency.student.targets import next_targets

Report = Callable[[dict[str, float]], None]


@dataclass(kw_only=True)
class StudentTraining:
    """What a training came to."""

    agreement: list[float] = field(default_factory=list)
    """Per epoch over all rounds: mean IoU of student and target on the held-out pictures."""
    rounds: list[int] = field(default_factory=list)
    """Epochs of each round."""
    predictions: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    """[N,S/4,S/4] the last round's moving average."""


def train_student(
    student: SaliencyStudent, data: StudentData, config: StudentTrainingConfig, *, report: Report | None = None
) -> StudentTraining:
    """Train ``student`` in place and return how it went.

    Args:
        student: its backbone may be frozen (maps are then computed once) or not.
        data: pictures at the student's size with their pseudo-masks.
        config: the settings.
        report: called after each epoch with round, epoch, loss and agreement.

    Raises:
        ValueError: pictures of another size, or no trusted mask among those held out.
    """
    if data.images.shape[1] != student.config.image_size:
        raise ValueError(f"pictures have the side {data.images.shape[1]}, the student {student.config.image_size}")
    count = len(data.images)
    order = keyed_rng(config.seed, purpose="student.held_out").permutation(count)
    held = np.zeros(count, bool)
    held[order[: max(1, round(config.held_out * count))]] = True
    source = MapSource(student, data.images)
    result = StudentTraining()
    targets, weights, reached = data.targets, data.weights, -1.0
    for turn in range(config.rounds):
        if turn:
            student.restart(config.seed + turn)
        round_ = _Round(student, source, targets, weights, held, config, turn)
        views = round_.train(report)
        result.agreement += round_.agreement
        result.rounds.append(len(round_.agreement))
        result.predictions = views.mean(1)
        if round_.best < reached + config.least_gain or turn + 1 == config.rounds:
            break
        reached = round_.best
        targets, weights = next_targets(data.images, views, share=config.share)
        if not (weights[held] > 0).any() or not (weights[~held] > 0).any():
            break  # masks that pass no gate are no lesson
    return result


def f_loss(probability: Tensor, target: Tensor, *, beta2: float) -> Tensor:
    """One minus the soft F-measure of each image (DeepUSPS, eq. 2), [B]; both [B,h,w]."""
    hit = (probability * target).sum((1, 2))
    precision = (hit + 1e-5) / (probability.sum((1, 2)) + 1e-5)
    recall = (hit + 1e-5) / (target.sum((1, 2)) + 1e-5)
    return 1 - (1 + beta2) * precision * recall / (beta2 * precision + recall)


class _Round:
    """One pass from targets to predictions."""

    def __init__(
        self,
        student: SaliencyStudent,
        source: MapSource,
        targets: Float32,
        weights: Float32,
        held: npt.NDArray[np.bool_],
        config: StudentTrainingConfig,
        turn: int,
    ):
        self.student, self.source, self.weights, self.config, self.turn = student, source, weights, config, turn
        self.taught, self.held = np.flatnonzero((weights > 0) & ~held), np.flatnonzero((weights > 0) & held)
        if not len(self.held):
            raise ValueError("no held-out picture has a trusted mask; give more pictures or a larger held_out")
        self.targets = targets > 0.5
        self.agreement: list[float] = []
        self.best = -1.0

    def train(self, report: Report | None) -> Float32:
        """Train until the end or until agreement stands still; returns the average predictions, [N,2,S/4,S/4]."""
        config = self.config
        optimiser = torch.optim.AdamW(_groups(self.student, config), weight_decay=config.weight_decay)
        steps = config.epochs * -(-len(self.taught) // config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        average, mass, since = np.zeros((len(self.targets), 2, *self.targets.shape[1:]), np.float32), 0.0, 0
        for epoch in range(config.epochs):
            loss = self._epoch(epoch, optimiser, schedule)
            counts = epoch >= config.warm_up
            views = self.source.predict(np.arange(len(average)) if counts else self.held)
            found = (views[self.held] if counts else views).mean(1) > 0.5
            agreement = float(_iou(found, self.targets[self.held]).mean())
            self.agreement.append(agreement)
            if report:
                report({"round": self.turn, "epoch": epoch, "loss": loss, "agreement": agreement})
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
        """See every taught picture once; returns the mean loss."""
        draw = keyed_rng(self.config.seed, epoch=self.turn * 1000 + epoch, purpose="student.order")
        self.student.train()
        losses = []
        for index in batches(draw.permutation(self.taught), self.config.batch_size):
            mirror = bool(draw.random() < 0.5)
            target = torch.from_numpy(self.targets[index].astype(np.float32)).to(self.source.device)
            logits = self.student.decode(self.source.maps(index, mirror))
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
    """IoU per image of two stacks of masks [N,h,w]; 1 where both are empty."""
    union = (first | second).sum((1, 2))
    both = (first & second).sum((1, 2))
    return np.asarray(np.where(union > 0, both / np.maximum(union, 1), 1.0))
