"""Score a segmenter on held-out pseudo-tasks, which chooses checkpoints without labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import nn

from fss.core.arrays import IGNORE
from fss.episodes.episode import RawEpisodes
from fss.evaluation.example_gallery import episode_ious
from fss.evaluation.metrics import Counts, count_pixels
from fss.models.config import Precision
from fss.models.precision import autocast
from fss.training.losses import cross_entropy_sum
from fss.training.workers import sum_arrays_over_workers, worker_rank, world_size


class HeldOutStream(Protocol):
    """A stream with held-out tasks."""

    image_size: int
    """Side of the rendered images, in pixels."""

    def held_out_sizes(self, limit: int | None = None) -> list[int]:
        """Return the number of tasks in each batch, for at most ``limit`` tasks."""

    def held_out(self, limit: int | None = None, *, only: Sequence[int] | None = None) -> Iterator[RawEpisodes]:
        """Yield the batches, or those with the numbers ``only``."""


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
    segmenter: nn.Module,
    stream: HeldOutStream,
    *,
    limit: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> HeldOutScore:
    """Evaluate a segmenter on held-out tasks in evaluation mode, and restore its mode.

    The workers of a training share the batches, so all of them have to call this function. Each gets the score of all
    tasks. It does not depend on the number of workers, as long as there are at least as many batches.

    Args:
        segmenter: the network, on ``device``.
        stream: the tasks.
        limit: largest number of tasks; None takes all.
        device: device of the network.
        precision: precision of the network's arithmetic.

    Raises:
        ValueError: there are no tasks.
    """
    sizes = stream.held_out_sizes(limit)
    if not sizes:
        raise ValueError(
            "there are no held-out tasks to choose a checkpoint by; raise held_out or keep the last checkpoint"
        )
    # With more workers than batches, several workers render a batch, and each predicts a part of it.
    parts = max(1, world_size() // len(sizes))
    units = [divmod(unit, parts) for unit in range(worker_rank(), parts * len(sizes), world_size())]
    first_task = [0, *accumulate(sizes)]
    counts, pixels = np.zeros((sum(sizes), 2, 2), np.int64), np.zeros(1, np.int64)
    losses = np.zeros(parts * len(sizes))
    training = segmenter.training
    segmenter.eval()
    for (number, part), raw in zip(units, stream.held_out(limit, only=[each for each, _ in units]), strict=True):
        chunks = raw.to(device).render(stream.image_size).chunks(parts)
        for batch in chunks[part : part + 1]:
            with autocast(device, precision):
                logits = segmenter(batch.query, batch.support_images, batch.support_masks)
            first = first_task[number] + sum(map(len, chunks[:part]))
            counts[first : first + len(batch)] = count_pixels(logits.argmax(1), batch.target)
            losses[number * parts + part] = float(cross_entropy_sum(logits, batch.target))
            pixels += int((batch.target != IGNORE).sum())
    segmenter.train(training)
    total_loss = sum(sum_arrays_over_workers(losses, device).tolist())
    total_pixels = int(sum_arrays_over_workers(pixels, device)[0])
    return _score(sum_arrays_over_workers(counts, device), loss=total_loss / max(total_pixels, 1))


def _score(counts: Counts, *, loss: float) -> HeldOutScore:
    intersection, union = counts.sum(0)
    background, foreground = (float(value) for value in intersection / np.maximum(union, 1))
    ious = episode_ious(counts)
    defined_ious = ious[~np.isnan(ious)]
    return HeldOutScore(
        iou=foreground,
        episode_iou=float(defined_ious.mean()) if len(defined_ious) else 0.0,
        fb_iou=(background + foreground) / 2,
        loss=loss,
        tasks=len(counts),
    )
