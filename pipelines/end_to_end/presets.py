"""Presets of the main job: the painted sample, photographs on this machine, and the settings of the paper."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models.config import SegmenterConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.defaults import PAPER, TrainingPlan, machine_plan
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.evaluation.config import EvaluateSettings
from pipelines.training.config import TrainSettings


def sample() -> MaskSplitJobConfig:
    """Return settings for the painted sample: under six minutes on two cores, without pretrained weights.

    The network and the pictures are small. The augmentation hardly changes colours, because a class of the sample has
    distinctive colours and patterns, but no distinctive outline. Nearly every picture has one object, so a second one
    is pasted beside it; otherwise no task would need its support.
    """
    return MaskSplitJobConfig(
        part_size=16,
        train=TrainSettings(
            segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=96, width=64, similarity=True),
            stream=StreamConfig(batch_size=16, held_out=0.1),
            split=SplitConfig(vertical=0.5, horizontal=0.5, distractor=0.7),
            augment=AugmentConfig(grey=0.0, hue=0.03, blur=0.2),
            optimizer=OptimizerConfig(steps=360, learning_rate=1e-3, weight_decay=1e-5, ema=0.98),
            checkpoint_every=120,
        ),
        evaluate=EvaluateSettings(episodes=300),
    )


def paper() -> MaskSplitJobConfig:
    """Return MaskSplit's published size, batch and rate (Amac et al., WACV 2022): days without a GPU.

    The network is a ResNet-50, cuts are corrected, weights are averaged, and there are 20,000 steps of 36,100. The
    preset masksplit-pascal of the training job has all published settings.
    """
    settings = _photographs(PAPER)
    return replace(settings, evaluate=replace(settings.evaluate, refine="no"))


def photographs() -> MaskSplitJobConfig:
    """Return settings for photographs: the network of the paper with a GPU, a light one without.

    The masks are those of a saliency student. On photographs of one salient object, the few-shot network gains six
    points by it. The network is joined with the learner density, and the light one, which is trained on small pictures,
    answers on pictures of twice the side; together they gain five points there, and two where several objects stand
    (tests/benchmarks/README.md).
    """
    plan = machine_plan()
    settings = _photographs(plan)
    if plan != PAPER:
        train = settings.train
        segmenter = replace(train.segmenter, image_size=2 * plan.image_size)
        stream = replace(train.stream, training_size=plan.image_size)
        settings = replace(settings, train=replace(train, segmenter=segmenter, stream=stream))
    student = settings.saliency_training.student
    if plan.backbone != student.backbone:
        student = replace(student, backbone_weights="pretrained")
    training = replace(settings.saliency_training, student=student)
    return replace(settings, saliency_student="auto", saliency_training=training)


def _photographs(plan: TrainingPlan) -> MaskSplitJobConfig:
    rate, ema, checkpoint_every = (1e-4, 0.999, 1000) if plan == PAPER else (1e-3, 0.99, plan.steps // 4)
    return MaskSplitJobConfig(
        train=TrainSettings(
            segmenter=SegmenterConfig(
                backbone=plan.backbone, backbone_weights="pretrained", image_size=plan.image_size, width=plan.width
            ),
            stream=StreamConfig(batch_size=plan.batch_size, held_out=0.05),
            optimizer=OptimizerConfig(steps=plan.steps, learning_rate=rate, weight_decay=1e-5, ema=ema),
            checkpoint_every=checkpoint_every,
        ),
        evaluate=EvaluateSettings(episodes=1000 if plan == PAPER else 400),
    )


PRESETS: dict[str, Callable[[], Any]] = {"sample": sample, "photographs": photographs, "paper": paper}
"""Presets by name."""


def default_preset(words: Sequence[str]) -> str:
    """Return the preset for a command line without ``--preset``: photographs if some are given, else sample."""
    return "photographs" if any(word.split("=")[0] == "--photographs" for word in words) else "sample"


def same_preset(config: MaskSplitJobConfig) -> tuple[str, MaskSplitJobConfig]:
    """Return the name and settings of the preset that a command for ``config`` starts from.

    It is the same on every machine, unlike that for photographs.
    """
    return ("paper", paper()) if config.photographs is not None else ("sample", sample())
