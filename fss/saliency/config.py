"""Settings of the saliency estimators and of the student's training."""

from typing import Annotated

import tyro
from annotated_types import Ge, Gt, Interval

from fss.core.config import settings


@settings
class SaliencyConfig:
    """Settings of the classical estimator."""

    working_pixels: Annotated[int, Ge(1)] = 50_000
    """Largest number of pixels to work on (258 x 194); larger pictures are shrunk, smaller ones stay as they are."""
    segments: Annotated[int, Ge(1)] = 200
    """Superpixels to aim for."""
    slic_iterations: Annotated[int, Ge(0)] = 3
    """K-means passes of the superpixels."""
    compactness: Annotated[float, Ge(0)] = 10.0
    """Weight of position relative to colour in the superpixels."""
    refine_rounds: Annotated[int, Ge(0)] = 2
    """Rounds of refinement by a colour model and the bilateral solver; 0 keeps the thresholded cue map."""
    trim_frames: bool = True
    """Exclude solid frames and letterbox bars from the picture."""


PRETRAINED = "pretrained"


@settings
class StudentSettings:
    """A trained student as estimator."""

    path: str
    """Trained student to use: a file written by the train_saliency job, local or s3:// URI."""


@settings
class ViTSettings:
    """A self-supervised vision transformer as estimator."""

    model: str = "vit_small_patch16_224.dino"
    """Vision transformer of timm with a class token; for DINOv2, a variant with registers."""
    weights: str | None = PRETRAINED
    """Weights of the vision transformer: a torch or safetensors file, or "pretrained" to download timm's. None: random
    weights."""
    image_size: Annotated[int, Ge(1)] = 448
    """Side of the square that pictures are resized to, in pixels; a multiple of the patch size."""
    threshold: float = 0.3
    """Cosine similarity to the least attended patch above which a patch is background."""


@settings
class StudentTrainingConfig:
    """Settings of the student's training."""

    rounds: Annotated[int, Ge(1)] = 4
    """Largest number of rounds; each trains on the targets and makes the predictions the next targets."""
    epochs: Annotated[int, Ge(1)] = 8
    """Largest number of epochs per round."""
    warm_up: Annotated[int, Ge(0)] = 2
    """Epochs of a round before its predictions count towards the moving average."""
    patience: Annotated[int, Ge(0)] = 2
    """Epochs without better agreement on the held-out pictures after which a round stops."""
    least_gain: float = 0.02
    """Smallest gain in a round's best agreement over the round before for another round to follow."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Pictures per training step."""
    learning_rate: Annotated[float, Ge(0)] = 2e-3
    """Learning rate of the decoder at the start of a round; it falls to zero along half a cosine."""
    backbone_learning_rate: Annotated[float, Ge(0)] = 1e-4
    """Learning rate of a backbone that is not frozen."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Weight decay of AdamW."""
    average: Annotated[float, Interval(ge=0, lt=1)] = 0.7
    """Decay of the moving average of the predictions, per epoch."""
    f_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the F-measure loss relative to the cross-entropy."""
    beta2: Annotated[float, Gt(0)] = 1.0
    """Beta squared of the F-measure loss."""
    held_out: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1
    """Share of the pictures that is never trained on and decides when to stop."""
    share: Annotated[float, Interval(gt=0, le=1)] = 0.8
    """Share of the predicted masks, best first, that the next round learns from."""
    seed: Annotated[int | None, tyro.conf.arg(name="order-seed")] = None
    """Seed of the held-out pictures, the order, the mirror images and each round's initial weights. None: the job's
    seed, which is 0 by default."""

    def __post_init__(self) -> None:
        if self.warm_up >= self.epochs:
            raise ValueError(
                f"warm_up is less than epochs ({self.epochs}), got {self.warm_up}; lower warm_up or raise epochs"
            )


@settings
class Fleet:
    """The job to estimate, and the machines for it."""

    images: Annotated[float, Ge(1)] = 1e9
    """Images of the collection."""
    part_size: Annotated[int, Ge(1)] = 1024
    """Images per part; 32 to 128 MiB of photographs suit an object store."""
    cores: Annotated[int, Ge(1)] = 64
    """Cores that make masks, or that feed the GPUs."""
    gpus: Annotated[int, Ge(0)] = 0
    """GPUs, for an estimator that runs on them."""
    source_prefixes: Annotated[int, Ge(1)] = 1
    """Prefixes of the bucket that the photographs are spread over, each of which S3 serves at its own rate."""
    efficiency: Annotated[float, Interval(gt=0, le=1)] = 0.9
    """Share of a core's speed in the sample that it reaches in the job (measured by bench_pseudomask.py)."""
    interruptions: Annotated[float, Interval(ge=0, lt=10)] = 0.05
    """Interruptions of a spot machine per hour."""
    sample: Annotated[int, Ge(1)] = 64
    """Images to measure the speed on."""
