"""Train the saliency student on pseudo-masks, without labels.

As in DeepUSPS (Nguyen et al., NeurIPS 2019, section 3): the student learns noisy masks, a moving average over epochs of
its predictions becomes the next round's target, and each round starts afresh. Ours: one student for all cues, images
weighted by the quality of their mask, averages that start after a warm-up, the bilateral solver in place of a CRF, and
a stop when the agreement of students and targets on pictures held out of training no longer grows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.draws import generator
from fss.models.features import Features
from fss.saliency.refine import refine
from fss.saliency.student import SaliencyStudent
from fss.saliency.superpixels import to_lab
from fss.saliency.views import normalise_images

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class StudentTrainingConfig:
    """Settings of the student's training."""

    rounds: int = 2
    """Passes of: train on the targets, predict, make the predictions the targets."""
    epochs: int = 8
    """At most this many epochs a round."""
    warm_up: int = 2
    """Epochs of a round before its predictions count towards the moving average."""
    patience: int = 2
    """Stop a round after this many epochs without better agreement on the held-out pictures."""
    batch_size: int = 16
    """Pictures per step."""
    learning_rate: float = 2e-3
    """Of the decoder, at the start of a round; falls to zero along a half cosine."""
    backbone_learning_rate: float = 1e-4
    """Of a backbone that is not frozen."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    average: float = 0.7
    """What the moving average of the predictions keeps per epoch."""
    f_weight: float = 1.0
    """Weight of the F-measure loss beside the cross-entropy."""
    beta2: float = 1.0
    """beta squared of the F-measure loss."""
    held_out: float = 0.1
    """Share of the pictures that only tell when to stop."""
    solver: bool = True
    """Follow the pictures' edges when predictions become targets."""
    seed: int = 0
    """Of order, mirror images and first weights."""


@dataclass(kw_only=True)
class StudentData:
    """Pictures and pseudo-masks in memory; N pictures of side S. 10,000 at 224 are 2 GB and plenty for a student."""

    images: npt.NDArray[np.uint8]
    """[N,S,S,3] RGB."""
    targets: npt.NDArray[np.float32]
    """[N,S/4,S/4] share of object, 0..1."""
    weights: npt.NDArray[np.float32]
    """[N] trust in each mask, 0..1."""

    def __post_init__(self) -> None:
        count, size = self.images.shape[:2]
        if self.targets.shape != (count, size // 4, size // 4) or self.weights.shape != (count,):
            raise ValueError(
                f"images {self.images.shape} want targets {(count, size // 4, size // 4)} and weights {(count,)}, got "
                f"{self.targets.shape} and {self.weights.shape}"
            )
        if count < 10:
            raise ValueError(f"a student needs pictures to learn from, got {count}; give it hundreds at least")


@dataclass(kw_only=True)
class StudentTraining:
    """What a training came to."""

    agreement: list[float] = field(default_factory=list)
    """Per epoch over all rounds: mean IoU of student and target on the held-out pictures."""
    rounds: list[int] = field(default_factory=list)
    """Epochs of each round."""
    targets: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
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
    """
    if data.images.shape[1] != student.config.image_size:
        raise ValueError(f"pictures have the side {data.images.shape[1]}, the student {student.config.image_size}")
    if not 0 < config.held_out < 0.5 or config.rounds < 1 or config.epochs <= config.warm_up:
        raise ValueError("held_out lies in (0, 0.5), rounds is 1 or more, and epochs exceeds warm_up")
    count = len(data.images)
    order = generator(config.seed, purpose="student.held_out").permutation(count)
    held = np.sort(order[: max(1, round(config.held_out * count))])
    taught = np.setdiff1d(order, held)
    source = _Source(student, data)
    result = StudentTraining(targets=data.targets)
    weights = data.weights
    for turn in range(config.rounds):
        if turn:
            student.restart(config.seed + turn)
        average = _train_round(student, source, result, weights, taught, held, config, turn, report)
        weights = data.weights * _agreement(average, result.targets)
        result.targets = _sharpen(data.images, average) if config.solver and turn + 1 < config.rounds else average
    return result


def f_loss(probability: Tensor, target: Tensor, *, beta2: float) -> Tensor:
    """One minus the soft F-measure of each image (DeepUSPS, eq. 2), [B]; both [B,h,w]."""
    hit = (probability * target).sum((1, 2))
    precision = (hit + 1e-5) / (probability.sum((1, 2)) + 1e-5)
    recall = (hit + 1e-5) / (target.sum((1, 2)) + 1e-5)
    return 1 - (1 + beta2) * precision * recall / (beta2 * precision + recall)


class _Source:
    """Batches of backbone maps: computed once for a frozen backbone, from the pictures otherwise."""

    def __init__(self, student: SaliencyStudent, data: StudentData, *, batch: int = 32):
        self.student, self.images = student, data.images
        self.device = next(student.parameters()).device
        self.cache: list[Tensor] | None = None
        if student.config.frozen:
            student.eval()
            pieces = [self._encode(data.images[i : i + batch]) for i in range(0, len(data.images), batch)]
            stages = [[piece[stage][0].half().cpu() for piece in pieces] for stage in range(4)]
            self.cache = [torch.cat(stage) for stage in stages]

    def maps(self, index: npt.NDArray[np.int64], mirror: bool) -> Features:
        """Backbone maps of the pictures ``index``, or of their mirror images."""
        if self.cache is None:
            images = self.images[index]
            return self._encode(images[:, :, ::-1].copy() if mirror else images)
        chosen = torch.from_numpy(index)
        maps = [stage[chosen].to(self.device).float() for stage in self.cache]
        # Mirrored maps stand in for the maps of mirrored pictures.
        return [[m.flip(3) if mirror else m] for m in maps]

    def _encode(self, images: npt.NDArray[np.uint8]) -> Features:
        features: Features = self.student.backbone(normalise_images(torch.from_numpy(images).to(self.device)))
        return features


def _train_round(
    student: SaliencyStudent,
    source: _Source,
    result: StudentTraining,
    weights: npt.NDArray[np.float32],
    taught: npt.NDArray[np.int64],
    held: npt.NDArray[np.int64],
    config: StudentTrainingConfig,
    turn: int,
    report: Report | None,
) -> npt.NDArray[np.float32]:
    """Train one round; returns the moving average of its predictions, [N,S/4,S/4]."""
    optimiser = torch.optim.AdamW(_groups(student, config), weight_decay=config.weight_decay)
    steps = config.epochs * -(-len(taught) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    hard = torch.from_numpy((result.targets > 0.5).astype(np.float32))
    average, mass, best, since = np.zeros_like(result.targets), 0.0, -1.0, 0
    for epoch in range(config.epochs):
        draw = generator(config.seed, epoch=turn * 1000 + epoch, purpose="student.order")
        student.train()
        losses = []
        for index in _batches(draw.permutation(taught), config.batch_size):
            mirror = bool(draw.random() < 0.5)
            target = hard[torch.from_numpy(index)].to(source.device)
            logits = student.decode(source.maps(index, mirror))
            loss = _loss(logits, target.flip(2) if mirror else target, weights[index], config)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        counts = epoch >= config.warm_up
        predicted = _predict(student, source, np.arange(len(average)) if counts else held)
        agreement = float(_agreement(predicted[held] if counts else predicted, result.targets[held]).mean())
        result.agreement.append(agreement)
        if report:
            report({"round": turn, "epoch": epoch, "loss": float(np.mean(losses)), "agreement": agreement})
        if not counts:
            continue
        average = config.average * average + (1 - config.average) * predicted
        mass = config.average * mass + 1 - config.average
        since = 0 if agreement > best + 1e-3 else since + 1
        best = max(best, agreement)
        if since >= config.patience:
            break
    result.rounds.append(epoch + 1)
    unbiased: npt.NDArray[np.float32] = (average / mass).astype(np.float32)
    return unbiased


def _loss(logits: Tensor, target: Tensor, weights: npt.NDArray[np.float32], config: StudentTrainingConfig) -> Tensor:
    trust = torch.from_numpy(weights).to(logits.device)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
    each = entropy + config.f_weight * f_loss(logits.sigmoid(), target, beta2=config.beta2)
    return (each * trust).sum() / trust.sum().clamp_min(1e-6)


def _groups(student: SaliencyStudent, config: StudentTrainingConfig) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = [{"params": list(student.decoder.parameters()), "lr": config.learning_rate}]
    if not student.config.frozen:
        groups.append({"params": list(student.backbone.parameters()), "lr": config.backbone_learning_rate})
    return groups


@torch.no_grad()
def _predict(
    student: SaliencyStudent, source: _Source, chosen: npt.NDArray[np.int64], batch: int = 64
) -> npt.NDArray[np.float32]:
    student.eval()
    found = [student.decode(source.maps(index, False)).sigmoid().cpu().numpy() for index in _batches(chosen, batch)]
    return np.concatenate(found)


def _batches(order: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _agreement(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """IoU per image of two stacks of maps cut at one half; 1 where both are empty."""
    first, second = a > 0.5, b > 0.5
    union = (first | second).sum((1, 2))
    both = (first & second).sum((1, 2))
    return np.where(union > 0, both / np.maximum(union, 1), 1.0).astype(np.float32)


def _sharpen(images: npt.NDArray[np.uint8], maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Follow the pictures' edges with the colour model and the bilateral solver, at the maps' size."""
    size = maps.shape[1]
    sharp = np.empty_like(maps)
    for k, image in enumerate(images):
        small = image.reshape(size, 4, size, 4, 3).mean((1, 3)).astype(np.uint8)
        sharp[k] = refine(to_lab(small), maps[k], 0.5, rounds=1, colour_weight=0.3, spatial=6.0)
    return sharp
