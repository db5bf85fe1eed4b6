"""The saliency student of the main job: it learns from the first masks, and makes those that training uses."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from fss.core.system import available_cores
from fss.models.config import AUTO
from fss.tracking.run import Run
from pipelines import pseudomask, train_saliency
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.masks.config import TrainSaliencyConfig
from pipelines.runtime.checkpoints import absolute_weights
from pipelines.runtime.job import Job
from pipelines.runtime.ray_session import is_local
from pipelines.runtime.result import JobResult
from pipelines.runtime.validation import build_student
from pipelines.training.config import TrainJobConfig

if TYPE_CHECKING:
    from fss.models.saliency.network import SaliencyStudent

MASK_SET = "student"
"""Mask set of the student."""
TRIES = 3  # of the training on a cluster, whose machines may leave
_FLAG = "saliency-training.backbone-weights"


def resolve_student(config: MaskSplitJobConfig) -> MaskSplitJobConfig:
    """Fill in the seeds and the backbone weights of the student, and what answers.

    Raises:
        ValueError: the student has no backbone weights, the segmenter asks for a student that is not trained, or for
            density where the network alone is to answer.
    """
    segmenter, student = config.train.segmenter, config.saliency_training.student
    if config.answer == "network" and segmenter.density_prior:
        raise ValueError("answer is network, but the segmenter has a density prior; leave one of the two flags out")
    if config.saliency_student == "none":
        if segmenter.saliency_prior == AUTO:
            raise ValueError(
                "saliency-prior is auto, but the job trains no saliency student; give --saliency-student auto, or "
                "--saliency-prior FILE with a student.safetensors of pipelines.train_saliency"
            )
        return config
    weights: str | Path | None = student.backbone_weights
    if weights is None:
        weights = segmenter.backbone_weights if segmenter.backbone == student.backbone else None
    if weights is None:
        others = "no weights" if segmenter.backbone_weights is None else f"those of {segmenter.backbone}"
        raise ValueError(
            f"the saliency student needs weights of its backbone {student.backbone}, and the segmenter has {others}; "
            f"give --{_FLAG} FILE (or pretrained), or --saliency-student none"
        )
    training, seed = config.saliency_training.training, config.seed
    settings = replace(
        config.saliency_training,
        student=replace(
            student,
            backbone_weights=str(absolute_weights(weights)),
            seed=seed if student.seed is None else student.seed,
        ),
        training=replace(training, seed=seed if training.seed is None else training.seed),
    )
    config = replace(config, saliency_training=settings)
    if config.answer == "network" or segmenter.learner != "masksplit" or segmenter.masking != "none":
        return config
    segmenter = replace(segmenter, density_prior=True, saliency_prior=segmenter.saliency_prior or AUTO)
    return replace(config, train=replace(config.train, segmenter=segmenter))


def untrained_prior(config: MaskSplitJobConfig) -> "SaliencyStudent | None":
    """Return the untrained student, to check and to time the segmenter with, if its prior is to be that student.

    Raises:
        ValueError: the backbone of the student is unknown, or its weights are missing or do not fit.
    """
    if config.saliency_student == "none":
        return None
    student = build_student(config.saliency_training.student, flag=_FLAG)
    return student if config.train.segmenter.saliency_prior == AUTO else None


def train_on_student(config: MaskSplitJobConfig, train_config: TrainJobConfig, job: Job) -> TrainJobConfig:
    """Train the student, make its masks, and return the training of the segmenter on them.

    Args:
        config: settings of the main job, resolved.
        train_config: training of the segmenter on the first masks.
        job: the main job; its result gets the counts, outputs and notes.
    """
    collection, result = train_config.collection, job.result
    with job.timed("saliency student"):
        trained = _train(config.train_saliency_job(collection), job.run)
    student = trained.outputs["student"]
    result.metrics["student: agreement"] = trained.metrics["kept.agreement"]
    result.outputs["student"] = student
    with job.timed("student: masks"):
        masks = pseudomask.run(config.student_mask_job(collection, student, MASK_SET), parent=job.run)
    result.notes += [f"masks of the student: {note}" for note in masks.notes]
    result.counts["student: accepted masks"] = masks.counts["accepted"]
    result.outputs |= {f"student: {output}": uri for output, uri in masks.outputs.items()}
    segmenter = train_config.segmenter
    if segmenter.saliency_prior == AUTO:
        segmenter = replace(segmenter, saliency_prior=student)
    return replace(train_config, mask_set=MASK_SET, segmenter=segmenter)


def _train(config: TrainSaliencyConfig, parent: Run) -> JobResult:
    """Train the student in this process, or on a machine of the cluster."""
    if is_local():
        return train_saliency.run(config, parent=parent)
    gpus = 1 if config.device == "cuda" else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES)(_train_on_worker)
    result: JobResult = ray.get(task.remote(config, parent))
    return result


def _train_on_worker(config: TrainSaliencyConfig, parent: Run) -> JobResult:
    """Train with all cores of the machine, of which Ray would give the task one."""
    import torch

    torch.set_num_threads(available_cores())
    return train_saliency.run(config, parent=parent)
