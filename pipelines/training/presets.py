"""Where the settings of a training by class episodes start from: as published for a learner, or plainly.

Sources: HSNet (Min et al., ICCV 2021), ASNet (Kang and Cho, CVPR 2022), VAT (Hong et al., 2021), and HM (Moon et al.,
ECCV 2022), which changes the masking alone. Their photometric augmentation (VAT only) is not rebuilt; none is used.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fss.episodes.config import OFF
from fss.models import SegmenterConfig
from fss.models.published import published_image_size
from fss.training.few_shot.config import ClassesConfig, OptimizerConfig, StreamConfig
from pipelines.training.config import TrainJobConfig

Data = Literal["pascal", "coco", "fss"]
PublishedLearner = Literal["hsnet", "asnet", "vat"]
EPOCH: dict[str, int] = {"pascal": 10_260, "coco": 70_816, "fss": 5_200}
"""Episodes of a published epoch, on average over the folds."""
LANES = 8


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a learner was trained, by data where it differs."""

    masking: Literal["none", "feature"]
    """How masks entered the support features before hybrid masking."""
    learning_rate: float
    """Of Adam, constant, without weight decay."""
    batch: Mapping[str, int]
    """Episodes per step."""
    epochs: Mapping[str, int]
    """Epochs at most; the best of the checkpoints after each was kept."""


RECIPES: dict[str, Recipe] = {
    "hsnet": Recipe(
        masking="feature",
        learning_rate=1e-3,
        batch={"pascal": 20, "coco": 40, "fss": 20},
        epochs={"pascal": 2000, "coco": 2000, "fss": 2000},
    ),
    "asnet": Recipe(
        masking="none",
        learning_rate=1e-3,
        batch={"pascal": 12, "coco": 24},
        epochs={"pascal": 2000, "coco": 2000},
    ),
    "vat": Recipe(
        masking="feature",
        learning_rate=5e-4,
        batch={"pascal": 16, "coco": 16, "fss": 16},
        epochs={"pascal": 300, "coco": 400, "fss": 300},
    ),
}


def published_training(learner: PublishedLearner, data: Data, *, collection: str, output: str) -> TrainJobConfig:
    """Return the published settings of a learner on a benchmark, for a ResNet-50 with ImageNet's weights.

    One epoch lies between two checkpoints. Where the benchmark has no validation classes (PASCAL-5i, COCO-20i), the
    test classes choose the checkpoint, as was published: such figures are optimistic.
    """
    recipe = RECIPES[learner]
    batch = recipe.batch[data]
    steps = EPOCH[data] // batch
    return TrainJobConfig(
        collection=collection,
        output=output,
        mask_set="truth",
        acceptance=None,
        episodes="classes",
        segmenter=SegmenterConfig(
            learner=learner,
            masking=recipe.masking,
            backbone_weights="pretrained",
            image_size=published_image_size(learner, data),
            benchmark=data,
        ),
        stream=StreamConfig(batch_size=batch, lanes=math.gcd(batch, LANES)),
        classes=ClassesConfig(
            benchmark=data,
            val=("val",) if data == "fss" else ("test",),
            val_episodes=2400 if data == "fss" else 1000,
            # An epoch of COCO is as long as the training images are many; of the others it is one pass over all pairs.
            episodes=EPOCH["coco"] if data == "coco" else None,
        ),
        augment=OFF,
        training=OptimizerConfig(
            steps=recipe.epochs[data] * steps, learning_rate=recipe.learning_rate, weight_decay=0.0, ema=0.0
        ),
        checkpoint_every=steps,
        weights="raw",
    )


def class_training(*, collection: str, output: str) -> TrainJobConfig:
    """Return settings for class episodes of any labelled collection: its truth, no augmentation, a faster rate."""
    return TrainJobConfig(
        collection=collection,
        output=output,
        mask_set="truth",
        acceptance=None,
        episodes="classes",
        augment=OFF,
        training=OptimizerConfig(learning_rate=1e-3, weight_decay=0.0),
    )


PRESETS: dict[str, Callable[..., Any]] = {"classes": class_training} | {
    f"{learner}-{data}": partial(published_training, learner, data)
    for learner, recipe in RECIPES.items()
    for data in recipe.batch
}
"""Presets by name; each takes the collection and the output."""
