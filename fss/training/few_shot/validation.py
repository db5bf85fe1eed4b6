"""Validators, which score checkpoints on held-out pseudo-tasks (no labels needed) or on episodes of other classes."""

from typing import Protocol

import torch
from torch import nn

from fss.collection import ImageReader
from fss.episodes.episode import EpisodeBatch
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.evaluation.metrics import METRIC_NAMES
from fss.models import FewShotSegmenter
from fss.training.few_shot.config import HELD_OUT_IOU, HELD_OUT_LOSS, VAL_MIOU
from fss.training.few_shot.held_out_score import score_held_out
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.mixed_stream import MixedStream

EXAMPLES = 8
"""Number of tasks to visualise at every checkpoint."""


class Validator(Protocol):
    """Scores a segmenter on the same tasks at every checkpoint."""

    score: str
    """Name of the metric that chooses the checkpoint; higher is better."""
    title: str
    """Description of the tasks, for titles."""

    def validate(self, segmenter: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics of a segmenter by name, including ``score``. Its mode is restored."""

    def examples(self) -> EpisodeBatch:
        """Return the first tasks, for visualisations."""


class PseudoTaskValidator:
    """Validates on the held-out pseudo-tasks of a stream, which need no labels."""

    score = HELD_OUT_IOU
    title = "held-out pseudo-tasks"

    def __init__(self, stream: MaskSplitStream | MixedStream, tasks: int):
        self._stream, self._tasks = stream, tasks

    def validate(self, segmenter: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics over all tasks. For the loss, lower is better."""
        held_out = self._stream.held_out(self._tasks)
        result = score_held_out(segmenter, held_out, self._stream.image_size, device=device)
        return {
            HELD_OUT_IOU: result.iou,
            "held_out_episode_iou": result.episode_iou,
            "held_out_fb_iou": result.fb_iou,
            HELD_OUT_LOSS: result.loss,
        }

    def examples(self) -> EpisodeBatch:
        """Return the first tasks."""
        return next(self._stream.held_out(min(EXAMPLES, self._stream.config.batch_size))).render(
            self._stream.image_size
        )


class EpisodeValidator:
    """Validates on the episodes of a plan; each image is encoded once per validation."""

    score = VAL_MIOU
    title = "validation episodes"

    def __init__(self, plan: EpisodePlan, reader: ImageReader, *, image_size: int):
        self._plan = plan
        self._pictures = EpisodeImages(reader, image_size)

    def validate(self, segmenter: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics over the episodes; the score is the mean over classes of the pooled IoU."""
        assert isinstance(segmenter, FewShotSegmenter)
        training = segmenter.training
        method = SegmenterMethod(segmenter, device=device)
        result = evaluate([method], self._plan, self._pictures, size=self._pictures.size)
        segmenter.train(training)
        metrics = result.metrics(method.name)
        return {f"val_{name}": getattr(metrics, name).value for name in METRIC_NAMES}

    def examples(self) -> EpisodeBatch:
        """Return the first episodes."""
        chunk = EvaluationBatch.load(self._plan.episodes[:EXAMPLES], self._pictures)
        support = self._pictures.images(chunk.support_ids)
        return EpisodeBatch(
            query=self._pictures.images(chunk.query_ids),
            target=chunk.target,
            support_images=support.reshape(*chunk.support_masks.shape[:2], *support.shape[1:]),
            support_masks=chunk.support_masks,
            ids=tuple(chunk.query_ids),
        )
