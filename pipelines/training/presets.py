"""Presets of the training job: general settings for class episodes, and the published settings of each learner.

Sources: MaskSplit (Amac et al., WACV 2022), HSNet (Min et al., ICCV 2021), ASNet (Kang and Cho, CVPR 2022), VAT (Hong
et al., 2021), and HM (Moon et al., ECCV 2022), which only changes the masking. All presets train in fp32 with TF32
off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fss.episodes.config import OFF, VAT_TONES, AugmentConfig, SplitConfig
from fss.models.config import SegmenterConfig, published_image_size
from fss.training.few_shot.config import ClassesConfig, OptimizerConfig, StreamConfig
from pipelines.training.config import TrainJobConfig

Data = Literal["pascal", "coco", "fss"]
PublishedLearner = Literal["hsnet", "asnet", "vat"]
EPOCH: dict[str, int] = {"pascal": 10_260, "coco": 70_816, "fss": 5_200}
"""Episodes of a published epoch, averaged over the folds."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Published training of a learner; settings that differ between benchmarks are by benchmark."""

    masking: Literal["none", "feature"]
    """Masking strategy of the original paper, before HM."""
    learning_rate: float
    """Constant learning rate of Adam without weight decay."""
    batch_size: Mapping[Data, int]
    """Episodes per step."""
    epochs: Mapping[Data, int]
    """Largest number of epochs; the best checkpoint of all epochs was published."""
    augment: AugmentConfig = OFF
    """Augmentation of query and supports."""


RECIPES: dict[PublishedLearner, Recipe] = {
    "hsnet": Recipe(
        masking="feature",
        learning_rate=1e-3,
        batch_size={"pascal": 20, "coco": 40, "fss": 20},
        epochs={"pascal": 2000, "coco": 2000, "fss": 2000},
    ),
    "asnet": Recipe(
        masking="none",
        learning_rate=1e-3,
        batch_size={"pascal": 12, "coco": 24},
        epochs={"pascal": 2000, "coco": 2000},
    ),
    "vat": Recipe(
        masking="feature",
        learning_rate=5e-4,
        batch_size={"pascal": 16, "coco": 16, "fss": 16},
        epochs={"pascal": 300, "coco": 400, "fss": 300},
        augment=VAT_TONES,
    ),
}


def published_training(learner: PublishedLearner, data: Data) -> TrainJobConfig:
    """Return the published settings of a learner on a benchmark, for a ResNet-50 with ImageNet weights.

    A checkpoint follows every epoch. If the benchmark has no validation classes (PASCAL-5i, COCO-20i), the test classes
    select the checkpoint, as published, so these results are optimistic. The authors' code repeats random numbers in
    its loading processes and trains void pixels as background; here no number repeats, and the loss ignores void.
    """
    recipe = RECIPES[learner]
    batch_size = recipe.batch_size[data]
    steps = EPOCH[data] // batch_size
    return TrainJobConfig(
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
        stream=StreamConfig(batch_size=batch_size),
        classes=ClassesConfig(
            benchmark=data,
            val=("val",) if data == "fss" else ("test",),
            # The query is each pair of image and class once in an epoch; of COCO, an image of a class drawn uniformly.
            draw="balanced" if data == "coco" else "entries",
            val_episodes=2400 if data == "fss" else 1000,
            # An epoch of COCO has as many episodes as training images; elsewhere it is one pass over all pairs.
            episodes=EPOCH["coco"] if data == "coco" else None,
        ),
        augment=recipe.augment,
        optimizer=OptimizerConfig(
            steps=recipe.epochs[data] * steps, learning_rate=recipe.learning_rate, weight_decay=0.0, ema=0.0
        ),
        checkpoint_every=steps,
        keep_weights="raw",
    )


def masksplit_training(data: Data) -> TrainJobConfig:
    """Return MaskSplit's published settings: 100 epochs of 361 steps on PASCAL's 5,789 images with a pseudo-mask.

    The weights of the deep-stem ResNet-101 come from a file, because no library has them. The masks are cut as in the
    released code, the backbone's BatchNorm statistics drift, and a view need not keep a quarter of the object. The
    authors chose the checkpoint by the test classes; here held-out pseudo-tasks choose it.

    For COCO-20i the number of images with a pseudo-mask and the length of the training are not known, nor whether the
    batch and the learning rate are those of PASCAL-5i. The preset repeats PASCAL-5i's settings; its 36,100 steps are 7
    epochs of the 82,783 images of train2014. The published result is only inferred from another paper.
    """
    return TrainJobConfig(
        acceptance=None,
        segmenter=SegmenterConfig(
            backbone="resnet101_deepstem",
            backbone_weights="pretrained",
            image_size=published_image_size("masksplit", data),
            drifting_batchnorm=True,
            benchmark=data,
        ),
        stream=StreamConfig(batch_size=16),
        split=SplitConfig(as_released=True),
        augment=AugmentConfig(keep=0.0),
        optimizer=OptimizerConfig(steps=36_100, learning_rate=1e-4, weight_decay=1e-5, ema=0.0),
        checkpoint_every=361,
        keep_weights="raw",
    )


def class_training() -> TrainJobConfig:
    """Return settings for class episodes of any labelled collection, without augmentation."""
    return TrainJobConfig(
        mask_set="truth",
        acceptance=None,
        episodes="classes",
        augment=OFF,
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.0),
    )


PRESETS: dict[str, Callable[[], Any]] = {
    "classes": class_training,
    "masksplit-pascal": partial(masksplit_training, "pascal"),
    "masksplit-coco": partial(masksplit_training, "coco"),
    **{
        f"{learner}-{data}": partial(published_training, learner, data)
        for learner, recipe in RECIPES.items()
        for data in recipe.batch_size
    },
}
"""Presets by name."""
