"""Score a segmenter on held-out pseudo-tasks, which chooses checkpoints without labels."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fss.core.arrays import IGNORE
from fss.episodes.episode import RawEpisodes
from fss.evaluation.example_gallery import episode_ious
from fss.evaluation.metrics import count_pixels


@dataclass(frozen=True, kw_only=True)
class HeldOutScore:
    """Metrics of a segmenter over the held-out tasks."""

    iou: float
    """Foreground IoU in 0..1, from intersection and union summed over all tasks."""
    episode_iou: float
    """Mean of the foreground IoU of each task, in 0..1; tasks with an empty union are skipped."""
    fb_iou: float
    """Mean of foreground and background IoU in 0..1, each from sums over all tasks."""
    loss: float
    """Mean cross-entropy over the valid pixels."""
    tasks: int
    """Number of tasks."""


@torch.no_grad()
def score_held_out(
    segmenter: nn.Module, batches: Iterable[RawEpisodes], size: int, *, device: str | torch.device = "cpu"
) -> HeldOutScore:
    """Evaluate a segmenter on held-out tasks in evaluation mode, and restore its mode.

    Workers exchange nothing, so that one of them can call this function alone.

    Args:
        segmenter: the network, on ``device``.
        batches: the tasks.
        size: side of the rendered images, in pixels.
        device: device of the network.

    Raises:
        ValueError: there are no tasks.
    """
    training = segmenter.training
    segmenter.eval()
    batch_counts, pixels, loss = [], 0, 0.0
    for raw in batches:
        batch = raw.to(device).render(size)
        logits = segmenter(batch.query, batch.support_images, batch.support_masks)
        batch_counts.append(count_pixels(logits.argmax(1), batch.target))
        loss += float(F.cross_entropy(logits.float(), batch.target, ignore_index=IGNORE, reduction="sum"))
        pixels += int((batch.target != IGNORE).sum())
    segmenter.train(training)
    if not batch_counts:
        raise ValueError(
            "there are no held-out tasks to choose a checkpoint by; raise held_out or keep the last checkpoint"
        )
    counts = np.concatenate(batch_counts)
    intersection, union = counts.sum(0)
    background, foreground = (float(value) for value in intersection / np.maximum(union, 1))
    ious = episode_ious(counts)
    defined_ious = ious[~np.isnan(ious)]
    return HeldOutScore(
        iou=foreground,
        episode_iou=float(defined_ious.mean()) if len(defined_ious) else 0.0,
        fb_iou=(background + foreground) / 2,
        loss=loss / max(pixels, 1),
        tasks=len(counts),
    )
