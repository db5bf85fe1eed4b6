"""Choose a checkpoint without labels: how well held-out pseudo-tasks are solved."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from fss.episodes.episode import RawEpisodes
from fss.training.losses import IGNORE


@dataclass(frozen=True, kw_only=True)
class HeldOutScore:
    """Figures over the held-out tasks."""

    iou: float
    """Foreground intersection over union, summed over all tasks."""
    loss: float
    """Mean cross-entropy over the valid pixels."""
    tasks: int
    """How many there were."""


@torch.no_grad()
def score_held_out(
    segmenter: nn.Module, batches: Iterable[RawEpisodes], size: int, *, device: str | torch.device = "cpu"
) -> HeldOutScore:
    """Solve held-out tasks with the segmenter in evaluation mode; its mode is given back.

    Nothing is exchanged between workers, so one of them may do it alone.

    Raises:
        ValueError: there are no tasks.
    """
    training = segmenter.training
    segmenter.eval()
    intersection, union, pixels, loss, tasks = 0, 0, 0, 0.0, 0
    for raw in batches:
        batch = raw.to(device).render(size)
        logits = segmenter(batch.query, batch.support_images, batch.support_masks)
        predicted, valid = logits.argmax(1) == 1, batch.target != IGNORE
        intersection += int((predicted & (batch.target == 1)).sum())
        union += int(((predicted | (batch.target == 1)) & valid).sum())
        loss += float(F.cross_entropy(logits.float(), batch.target, ignore_index=IGNORE, reduction="sum"))
        pixels += int(valid.sum())
        tasks += len(batch)
    segmenter.train(training)
    if not tasks:
        raise ValueError("there are no held-out tasks to choose a checkpoint by; raise held_out or keep the last one")
    return HeldOutScore(iou=intersection / max(union, 1), loss=loss / max(pixels, 1), tasks=tasks)
