"""Training of the saliency student on pseudo-masks, without labels.

As in DeepUSPS (Nguyen et al., NeurIPS 2019, section 3), the student learns noisy masks, the moving average of its
predictions over the epochs becomes the target of the next round, and each round starts with new weights. Differences
from the paper: one student for all cues; images weighted by the quality of their masks; averages that start after a
warm-up; a colour model and the bilateral solver in place of a CRF; and early stopping, of epochs and of rounds, by the
agreement of student and targets on held-out images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import Float32, Int64
from fss.core.rng import keyed_rng
from fss.models.config import Precision
from fss.models.saliency.network import SaliencyStudent
from fss.saliency.config import StudentTrainingConfig
from fss.saliency.student.data import StudentData
from fss.saliency.student.feature_maps import MapSource, batches
from fss.saliency.student.targets import next_targets
from fss.training.loop import Loop, StepLoss

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


@dataclass(frozen=True)
class StudentBatch:
    """Rows of a step."""

    rows: Int64
    """Numbers of the images."""
    mirror: bool
    """Whether the images and their targets are mirrored."""


def train_student(
    student: SaliencyStudent,
    data: StudentData,
    config: StudentTrainingConfig,
    *,
    precision: Precision = "fp32",
    report: Report | None = None,
) -> StudentTraining:
    """Train ``student`` in place, from its first step to the last; see :class:`StudentLoop` for the arguments.

    ``report`` is called after each epoch with round, epoch, loss and agreement.

    Raises:
        ValueError: the images have another size, or no held-out image has a mask of weight above 0.
    """
    loop = StudentLoop(student, data, config, precision=precision)
    for _ in loop.run():
        if report and loop.epoch_ended:
            report(loop.epoch_metrics)
    return loop.result


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


class StudentLoop(Loop[StudentBatch]):
    """A student with its optimiser, its targets, and its position in the rounds and epochs."""

    def __init__(
        self,
        student: SaliencyStudent,
        data: StudentData,
        config: StudentTrainingConfig,
        *,
        precision: Precision = "fp32",
    ):
        """Compute the maps of a frozen backbone, and prepare the first round.

        Args:
            student: the network.
            data: images at the student's size with their pseudo-masks.
            config: settings of the training.
            precision: precision of the arithmetic; with ``bf16`` the passes run under autocast.

        Raises:
            ValueError: the images have another size, or no held-out image has a mask of weight above 0.
        """
        if data.images.shape[1] != student.config.image_size:
            raise ValueError(
                f"images have the side {data.images.shape[1]}, but the student takes {student.config.image_size}"
            )
        super().__init__(student, _optimizer(student, config), device=next(student.parameters()).device)
        self.student, self.images, self.config = student, data.images, config
        count = len(data.images)
        order = keyed_rng(config.seed or 0, purpose="student.held_out").permutation(count)
        self.held_out = np.zeros(count, bool)
        self.held_out[order[: max(1, round(config.held_out * count))]] = True
        self.source = MapSource(student, data.images, precision)
        self.result = StudentTraining()
        self.epoch_metrics: dict[str, float] = {}
        self._finished, self._previous_best = False, -1.0
        self._begin_round(data.targets > 0.5, data.weights)
        if not len(self.held_out_rows):
            raise ValueError("no held-out image has a trusted mask; give more images or a larger held_out")

    def _begin_round(self, targets: npt.NDArray[np.bool_], weights: Float32) -> None:
        self.targets, self.weights = targets, weights
        self.train_rows = np.flatnonzero((weights > 0) & ~self.held_out)
        self.held_out_rows = np.flatnonzero((weights > 0) & self.held_out)
        self.optimizer = _optimizer(self.student, self.config)
        steps = self.config.epochs * self._epoch_steps
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)
        self._losses: list[float] = []  # of the epoch
        self._average = np.zeros((len(targets), 2, *targets.shape[1:]), np.float32)
        self._mass, self._stalled, self._best = 0.0, 0, -1.0
        self._round_start = len(self.result.agreement)

    @property
    def _epoch_steps(self) -> int:
        return -(-len(self.train_rows) // self.config.batch_size)

    @property
    def round(self) -> int:
        """Number of the round of the next step, counted from 0."""
        return len(self.result.rounds)

    @property
    def epoch(self) -> int:
        """Number of the epoch of the next step, counted from 0 over all rounds."""
        return len(self.result.agreement)

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was the last one of its epoch; ``epoch_metrics`` are those of this epoch."""
        return bool(self.epoch_metrics) and not self._losses

    @property
    def done(self) -> bool:
        """Whether the training has done its last step."""
        return self._finished

    def batches(self) -> Iterator[StudentBatch]:
        """Yield the batches from the next step on; the rounds end as the agreement decides."""
        while True:
            epoch, start = self.epoch - self._round_start, len(self._losses)
            rng = keyed_rng(self.config.seed or 0, epoch=self.round * 1000 + epoch, purpose="student.order")
            for number, rows in enumerate(batches(rng.permutation(self.train_rows), self.config.batch_size)):
                mirror = bool(rng.random() < 0.5)
                if number >= start:
                    yield StudentBatch(rows, mirror)

    def backward(self, batch: StudentBatch) -> StepLoss:
        """Compute the gradients of a batch, and return its loss."""
        target = torch.from_numpy(self.targets[batch.rows].astype(np.float32)).to(self.device)
        logits = self.source.logits(batch.rows, batch.mirror)
        loss = _loss(logits, target.flip(2) if batch.mirror else target, self.weights[batch.rows], self.config)
        torch.autograd.backward(loss)
        self._losses.append(float(loss.detach()))
        return StepLoss(loss.detach(), [f"row {row}" for row in batch.rows])

    def updated(self) -> None:
        """After the last batch of an epoch, compare student and targets, and begin the next epoch or round."""
        if len(self._losses) < self._epoch_steps:
            return
        config, epoch = self.config, self.epoch - self._round_start
        counts = epoch >= config.warm_up
        views = self.source.predict(np.arange(len(self._average)) if counts else self.held_out_rows)
        masks = (views[self.held_out_rows] if counts else views).mean(1) > 0.5
        agreement = float(_iou(masks, self.targets[self.held_out_rows]).mean())
        loss = float(np.mean(self._losses))
        self.epoch_metrics = {"round": self.round, "epoch": epoch, "loss": loss, "agreement": agreement}
        self.result.agreement.append(agreement)
        self._losses = []
        if counts:
            self._average = config.average * self._average + (1 - config.average) * views
            self._mass = config.average * self._mass + 1 - config.average
            self._stalled = 0 if agreement > self._best + 1e-3 else self._stalled + 1
            self._best = max(self._best, agreement)
        if epoch + 1 == config.epochs or (counts and self._stalled >= config.patience):
            self._end_round()

    def _end_round(self) -> None:
        """Make the averaged predictions the targets of the next round, unless the training ends."""
        views: Float32 = (self._average / self._mass).astype(np.float32)
        self.result.predictions = views.mean(1)
        self.result.rounds.append(len(self.result.agreement) - self._round_start)
        if self._best < self._previous_best + self.config.least_gain or self.round == self.config.rounds:
            self._finished = True
            return
        self._previous_best = self._best
        targets, weights = next_targets(self.images, views, share=self.config.share)
        if not (weights[self.held_out] > 0).any() or not (weights[~self.held_out] > 0).any():
            self._finished = True  # no mask passes every gate, so there is nothing to train on or to hold out
            return
        self.student.restart((self.config.seed or 0) + self.round)
        self._begin_round(targets > 0.5, weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to resume at any step: also the targets and averages of the round."""
        arrays = (self.targets, self.weights, self._average if self._mass else np.zeros(0), self.result.predictions)
        return {
            **super().state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "arrays": [torch.from_numpy(array) for array in arrays],
            "agreement": self.result.agreement,
            "rounds": self.result.rounds,
            "losses": self._losses,
            "round": [self._round_start, self._stalled, self._mass, self._best, self._previous_best],
            "finished": self._finished,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state; the next step is the one after its last.

        Raises:
            ValueError: the state of another student, or of another number of images.
        """
        targets, weights, average, predictions = (tensor.numpy() for tensor in state["arrays"])
        if targets.shape != self.targets.shape:
            raise ValueError(
                f"the saved training has targets {targets.shape}, the images have {self.targets.shape}; resume with "
                "the data of the training, or start anew"
            )
        self.load_model(state["model"])
        self._begin_round(targets, weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step = int(state["step"])
        self.result = StudentTraining(
            agreement=list(state["agreement"]), rounds=list(state["rounds"]), predictions=predictions
        )
        self._losses, self._finished = list(state["losses"]), bool(state["finished"])
        self._round_start, self._stalled, self._mass, self._best, self._previous_best = state["round"]
        self._average = average if self._mass else self._average


def _loss(logits: Tensor, target: Tensor, weights: Float32, config: StudentTrainingConfig) -> Tensor:
    trust = torch.from_numpy(weights).to(logits.device)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
    each = entropy + config.f_weight * f_loss(logits.sigmoid(), target, beta2=config.beta2)
    return (each * trust).sum() / trust.sum().clamp_min(1e-6)


def _optimizer(student: SaliencyStudent, config: StudentTrainingConfig) -> torch.optim.Optimizer:
    groups: list[dict[str, object]] = [{"params": list(student.decoder.parameters()), "lr": config.learning_rate}]
    if not student.config.frozen:
        groups.append({"params": list(student.backbone.parameters()), "lr": config.backbone_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def _iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the IoU of two masks for each image, [N], for masks [N,h,w]; 1 where both are empty."""
    union = (first | second).sum((1, 2))
    both = (first & second).sum((1, 2))
    return np.asarray(np.where(union > 0, both / np.maximum(union, 1), 1.0))
