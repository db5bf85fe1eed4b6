"""Choose a checkpoint without labels: how well held-out pseudo-tasks are solved."""

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
    """Metrics over the held-out tasks."""

    iou: float
    """Foreground intersection over union, summed over all tasks."""
    episode_iou: float
    """Mean over the tasks of each one's foreground IoU; tasks whose union is empty are skipped."""
    fb_iou: float
    """Mean of the foreground's and the background's IoU, each summed over all tasks."""
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
    found, pixels, loss = [], 0, 0.0
    for raw in batches:
        batch = raw.to(device).render(size)
        logits = segmenter(batch.query, batch.support_images, batch.support_masks)
        found.append(count_pixels(logits.argmax(1), batch.target))
        loss += float(F.cross_entropy(logits.float(), batch.target, ignore_index=IGNORE, reduction="sum"))
        pixels += int((batch.target != IGNORE).sum())
    segmenter.train(training)
    if not found:
        raise ValueError("there are no held-out tasks to choose a checkpoint by; raise held_out or keep the last one")
    counts = np.concatenate(found)
    intersection, union = counts.sum(0)
    background, foreground = (float(value) for value in intersection / np.maximum(union, 1))
    ious = episode_ious(counts)
    known = ious[~np.isnan(ious)]
    return HeldOutScore(
        iou=foreground,
        episode_iou=float(known.mean()) if len(known) else 0.0,
        fb_iou=(background + foreground) / 2,
        loss=loss / max(pixels, 1),
        tasks=len(counts),
    )
