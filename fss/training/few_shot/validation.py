"""Validators, which score checkpoints on held-out pseudo-tasks (no labels needed) or on episodes of other classes."""

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from fss.collection import ClassIndex, ImageReader
from fss.core.config import config_hash
from fss.episodes.episode import EpisodeBatch
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.calibration import Answers, absent_plan, answer_plans, answer_tasks
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch, MemoryCache, Picture
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.evaluation.metrics import METRIC_NAMES, compute_metrics
from fss.images.canvas import planes
from fss.models import FewShotSegmenter
from fss.models.config import Precision
from fss.training.canvas_cache import CanvasCache
from fss.training.few_shot.config import HELD_OUT_IOU, HELD_OUT_LOSS, VAL_MIOU, StreamConfig
from fss.training.few_shot.held_out_score import score_held_out
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.mixed_stream import MixedStream
from fss.training.workers import share_buffers, sum_arrays_over_workers, worker_rank, world_size

CALIBRATION_TASKS = 128
"""Tasks that a calibration is fitted to, and as many without the object."""
EXAMPLES = 8
"""Number of tasks to visualise at every checkpoint."""
LEAST_BATCH = 8
"""Least validation episodes in a pass."""


class Validator(Protocol):
    """Scores a segmenter on the same tasks at every checkpoint."""

    score: str
    """Name of the metric that chooses the checkpoint; higher is better."""
    title: str
    """Description of the tasks, for titles."""
    across_pictures: bool
    """Whether query and supports of a task are different pictures."""

    def validate(self, segmenter: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics of a segmenter by name, including ``score``. Its mode is restored.

        The workers of a training share the tasks: all of them call this method, and each gets the metrics of all tasks.
        """

    def examples(self) -> EpisodeBatch:
        """Return the first tasks, for visualisations."""

    def answers(self, segmenter: FewShotSegmenter, device: torch.device) -> Answers:
        """Return answers to some of the tasks, and to tasks without the object, for a calibration."""


class PseudoTaskValidator:
    """Validates on the held-out pseudo-tasks of a stream, which need no labels."""

    score = HELD_OUT_IOU
    title = "held-out pseudo-tasks"
    across_pictures = False

    def __init__(self, stream: MaskSplitStream | MixedStream, tasks: int, *, precision: Precision = "fp32"):
        self._stream, self._tasks, self._precision = stream, tasks, precision

    def validate(self, segmenter: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics over all tasks. For the loss, lower is better."""
        share_buffers(segmenter)
        result = score_held_out(segmenter, self._stream, limit=self._tasks, device=device, precision=self._precision)
        return {
            HELD_OUT_IOU: result.iou,
            "held_out_episode_iou": result.episode_iou,
            "held_out_fb_iou": result.fb_iou,
            HELD_OUT_LOSS: result.loss,
        }

    def answers(self, segmenter: FewShotSegmenter, device: torch.device) -> Answers:
        """Return answers to tasks, and to the same supports with the query of the next task of their batch."""
        batches = self._stream.held_out(min(CALIBRATION_TASKS, self._tasks))
        return answer_tasks(segmenter, (raw.to(device).render(self._stream.image_size) for raw in batches))

    def examples(self) -> EpisodeBatch:
        """Return the first tasks."""
        return next(self._stream.held_out(min(EXAMPLES, self._stream.config.batch_size))).render(
            self._stream.image_size
        )


class EpisodeValidator:
    """Validates on the episodes of a plan; each image is encoded once per validation."""

    score = VAL_MIOU
    title = "validation episodes"
    across_pictures = True

    def __init__(
        self,
        plan: EpisodePlan,
        reader: ImageReader,
        *,
        image_size: int,
        stream: StreamConfig,
        precision: Precision = "fp32",
    ):
        """Open the validation.

        Args:
            plan: the episodes.
            reader: reads their images and masks.
            image_size: side of the images for the network, in pixels.
            stream: batch size and cache of the training.
            precision: precision of the network's arithmetic.
        """
        assert reader.mask_set is not None, "a plan is made from a mask set"
        self._masks = reader.mask_set
        self._plan, self._precision, self._batch = plan, precision, stream.batch_size
        self._pictures = EpisodeImages(reader, image_size, cache=PlanCache(plan, reader, image_size, stream))

    def validate(self, segmenter: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics over the episodes; the score is the mean over classes of the pooled IoU."""
        assert isinstance(segmenter, FewShotSegmenter)
        share_buffers(segmenter)
        training = segmenter.training
        batch = self._episodes_per_pass(device)
        method = SegmenterMethod(segmenter, device=device, precision=self._precision, batch=batch)
        share = worker_rank(), world_size()
        result = evaluate([method], self._plan, self._pictures, size=self._pictures.size, batch=batch, share=share)
        segmenter.train(training)
        counts = sum_arrays_over_workers(result.counts[method.name], device)
        metrics = compute_metrics(result.class_ids, counts)
        return {f"val_{name}": getattr(metrics, name).value for name in METRIC_NAMES}

    def answers(self, segmenter: FewShotSegmenter, device: torch.device) -> Answers:
        """Return answers to the first episodes, and to the same supports with queries without the class."""
        plan = replace(self._plan, episodes=self._plan.episodes[:CALIBRATION_TASKS])
        index = ClassIndex.build(self._masks, min_pixels=1)
        images_of = {c: {entry.image_id for entry in index[c]} for c in plan.classes}
        absent = absent_plan(plan, images_of, limit=len(plan))
        return answer_plans(SegmenterMethod(segmenter, device=device), plan, absent, self._pictures)

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

    def _episodes_per_pass(self, device: torch.device) -> int:
        """Return the episodes of a pass: on a GPU at least as many as it trains on, which take more memory there."""
        return LEAST_BATCH if device.type == "cpu" else max(LEAST_BATCH, self._batch // world_size())


class PlanCache:
    """The pictures of a plan in a file that the workers of a machine share; those without room there, in memory."""

    def __init__(self, plan: EpisodePlan, reader: ImageReader, size: int, stream: StreamConfig):
        """Open the cache.

        Args:
            plan: names the pictures.
            reader: reads the classes of pictures that another process has decoded.
            size: side of the pictures, in pixels.
            stream: size and folder of the cache.
        """
        masks = reader.mask_set
        assert masks is not None, "a plan is made from a mask set"
        ids = sorted({image_id for episode in plan for image_id in (episode.query_id, *episode.support_ids)})
        self._slots = {image_id: slot for slot, image_id in enumerate(ids)}
        self._reader, self._classes = reader, dict[str, tuple[int, ...]]()
        self._memory = MemoryCache()
        self._canvases = CanvasCache(
            len(ids),
            size,
            channels=4,
            gigabytes=stream.cache_gb,
            folder=stream.cache_folder,
            key=config_hash(["validation", masks.config_hash, masks.parts.state_hash(), ids]),
        )

    def get(self, image_id: str) -> Picture | None:
        """Return a picture, or None if it is not there."""
        canvas = self._canvases.get(self._slots[image_id])
        if canvas is None:
            return self._memory.get(image_id)
        return Picture(canvas[:3].transpose(1, 2, 0), canvas[3], self._classes_of(image_id))

    def put(self, image_id: str, picture: Picture) -> None:
        """Keep a picture."""
        slot = self._slots[image_id]
        self._classes[image_id] = picture.classes
        self._canvases.put(slot, np.concatenate([planes(picture.rgb), picture.mask[None]]))
        if not self._canvases.has(slot):
            self._memory.put(image_id, picture)

    def _classes_of(self, image_id: str) -> tuple[int, ...]:
        if image_id not in self._classes:
            position = self._reader.index.find(image_id)
            assert position is not None, "the picture was read before"
            self._classes[image_id] = self._reader.read_encoded(image_id, *position).classes
        return self._classes[image_id]
