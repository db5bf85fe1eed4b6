"""Settings of the saliency estimators and of the student's training."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SaliencyConfig:
    """Settings of the classical estimator."""

    working_pixels: int = 50_000
    """Pictures are shrunk to at most this many pixels (258 x 194); never enlarged."""
    segments: int = 200
    """Superpixels to aim for."""
    slic_iterations: int = 3
    """k-means passes of the superpixels."""
    compactness: float = 10.0
    """Weight of position against colour in the superpixels."""
    refine_rounds: int = 2
    """Rounds of colour model and bilateral solver; 0 keeps the thresholded cue map."""
    trim_frames: bool = True
    """Leave out solid frames and letterbox bars."""


PRETRAINED = "pretrained"


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """A trained student as estimator."""

    path: str
    """File that ``save_student`` wrote: local or s3:// URI."""


@dataclass(frozen=True, kw_only=True)
class ViTSettings:
    """A self-supervised vision transformer as estimator."""

    model: str = "vit_small_patch16_224.dino"
    """A timm vision transformer with a class token; DINOv2 needs its variants with registers."""
    weights: str | None = PRETRAINED
    """A state dict's file, "pretrained" (timm's, downloaded), or None (random)."""
    image_size: int = 448
    """Side of the square that pictures are resized to; a multiple of the patch size."""
    threshold: float = 0.3
    """Cosine to the least attended patch above which a patch is background."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Shape of the student."""

    backbone: str = "mobilenet_v2"
    """Any backbone of ``fss.models`` or convolutional model of timm."""
    backbone_weights: str | None = None
    """The backbone's weights: a file, "pretrained" for the library's, or none."""
    image_size: int = 224
    """Pictures are resized to a square of this side, a multiple of 32."""
    width: int = 64
    """Channels of the decoder, a multiple of 16."""
    frozen: bool = True
    """Train the decoder alone; the backbone's maps are then computed once."""
    seed: int = 0
    """Seed of the decoder's first weights."""


@dataclass(frozen=True, kw_only=True)
class StudentTrainingConfig:
    """Settings of the student's training."""

    rounds: int = 4
    """At most this many passes of: train on the targets, predict, make the predictions the targets."""
    epochs: int = 8
    """At most this many epochs a round."""
    warm_up: int = 2
    """Epochs of a round before its predictions count towards the moving average."""
    patience: int = 2
    """Stop a round after this many epochs without better agreement on the held-out pictures."""
    least_gain: float = 0.02
    """No further round once a round's best agreement is not this much better than that of the round before."""
    batch_size: int = 16
    """Pictures per step."""
    learning_rate: float = 2e-3
    """Of the decoder, at the start of a round; falls to zero along a half cosine."""
    backbone_learning_rate: float = 1e-4
    """Of a backbone that is not frozen."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    average: float = 0.7
    """What the moving average of the predictions keeps per epoch."""
    f_weight: float = 1.0
    """Weight of the F-measure loss beside the cross-entropy."""
    beta2: float = 1.0
    """beta squared of the F-measure loss."""
    held_out: float = 0.1
    """Share of the pictures that only tell when to stop."""
    share: float = 0.8
    """Share of the predicted masks, best first, that the next round learns from."""
    seed: int = 0
    """Of order, mirror images and first weights."""

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 0.5 or self.rounds < 1 or self.epochs <= self.warm_up or not 0 < self.share <= 1:
            raise ValueError(
                "held_out lies in (0, 0.5), share in (0, 1], rounds is 1 or more, and epochs exceeds warm_up; got "
                f"{self.held_out}, {self.share}, {self.rounds}, and {self.epochs} against {self.warm_up}"
            )


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The job to plan, and the machines for it."""

    images: float = 1e9
    """Images of the collection."""
    part_size: int = 1024
    """Images in a part; 32 to 128 MiB of photographs suit an object store."""
    cores: int = 64
    """Cores that make masks, or that feed the GPUs."""
    gpus: int = 0
    """GPUs, for an estimator that runs on them."""
    efficiency: float = 0.9
    """Share of a core's measured speed that it keeps in the job (measured: bench_pseudomask.py)."""
    interruptions: float = 0.05
    """How often a spot machine is taken away per hour."""
    sample: int = 64
    """Images to measure."""

    def check(self) -> None:
        """Refuse a fleet that cannot be; ValueError saying what is allowed."""
        if min(self.images, self.part_size, self.cores, self.sample) < 1 or self.gpus < 0:
            raise ValueError(
                f"images, part size, cores and sample are 1 or more and gpus 0 or more, got {self.images:g}, "
                f"{self.part_size}, {self.cores}, {self.sample} and {self.gpus}"
            )
        if not 0 < self.efficiency <= 1 or not 0 <= self.interruptions < 10:
            raise ValueError(
                f"efficiency is in (0, 1] and interruptions in [0, 10) per hour, got {self.efficiency} and "
                f"{self.interruptions}"
            )
