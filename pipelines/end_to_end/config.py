"""The settings of the main job, and those of the training that follow from them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from fss.core import storage
from fss.core.config import to_dict
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models import SegmenterConfig
from fss.relabel import RelabelConfig
from fss.relabel.config import RoundGateConfig
from fss.saliency import SaliencyConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines.end_to_end.inputs import Input
from pipelines.end_to_end.presets import preset_for
from pipelines.runtime.config import ScaleConfig, TrackingConfig
from pipelines.training.config import TrainJobConfig


def own_masks() -> RelabelConfig:
    """Return how rounds make masks again where nothing else is asked for.

    What served best on photographs with a truth to audit by: each picture's own mask, in halves, as support, as in
    training; a low threshold, because the network learned to find the other half and is unsure of a whole object; and
    outlines that follow the picture's edges.
    """
    return RelabelConfig(supports="self", foreground=0.25, background=0.25, edges=True)


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """How rounds go on."""

    relabel: RelabelConfig = field(default_factory=own_masks)
    """Supports, views, and what becomes of the votes."""
    accept_quantile: float = 0.65
    """Share of the new masks to train on, best first within every cluster of alike pictures."""
    go: RoundGateConfig = field(default_factory=RoundGateConfig)
    """What new masks have to show; the first round that does not is the last, and is not trained on."""
    audit: str | None = None
    """Mask set with the truth of some of the photographs: the rounds stop when it does not surely rise. Nothing else
    reads it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where relabelling runs."""

    def __post_init__(self) -> None:
        if self.relabel.supports == "bank":
            raise ValueError(
                "rounds know no labelled shots: take supports neighbours or self, or run pipelines.relabel"
            )


@dataclass(frozen=True, kw_only=True)
class MaskSplitJobConfig:
    """Settings of the main job. What is left out depends on the input: small for the sample, as published otherwise."""

    photographs: str | None = None
    """Photographs to learn from: a folder, an s3:// URI, or a collection that exists; None: the painted sample."""
    evaluation: str | None = None
    """Labelled pictures to evaluate on: <class>/<n>.jpg with .png masks (FSS-1000), images/ beside masks/, or a
    collection that exists; None: the painted sample's, or no evaluation of your own photographs."""
    evaluation_classes: str | None = None
    """Class split to evaluate on; None: novel or test where there is one, else all classes."""
    workdir: str = "runs/masksplit"
    """Where everything goes: local folder or s3:// URI."""
    learner: Literal["masksplit", "hsnet", "asnet", "vat"] | None = None
    """The network that compares query and support."""
    masking: Literal["none", "feature", "input", "hybrid"] | None = None
    """How the support mask enters the support features."""
    backbone: str | None = None
    """Backbone: resnet18, resnet50, resnet101, resnet101_deepstem, mobilenet_v2, vgg16, or a timm name."""
    weights: str | None = None
    """Backbone weights: a state dict's path, or "pretrained" to download the library's; None: random."""
    image_size: int | None = None
    """Side of the square that the network sees, in pixels."""
    width: int | None = None
    """Channels of MaskSplit's head."""
    similarity: bool | None = None
    """Show MaskSplit's network the similarities of query and support."""
    steps: int | None = None
    """Training steps."""
    batch: int | None = None
    """Episodes per step."""
    learning_rate: float | None = None
    """Learning rate of Adam."""
    weight_decay: float | None = None
    """Weight decay of Adam."""
    ema: float | None = None
    """Decay of the moving average of the weights."""
    episodes: int | None = None
    """Evaluation episodes per plan."""
    shots: tuple[int, ...] = (1, 5)
    """Supports per evaluation episode, one plan for each."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """How pseudo-masks are found."""
    accept_quantile: float = 0.65
    """Share of the pseudo-masks to train on, best first."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How masks are cut in two; the sample has settings of its own, where these are left as they are."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How views are drawn; the sample has settings of its own, where these are left as they are."""
    rounds: int = 0
    """Rounds of self-training after the first training: make the masks again with the trained network and train on
    them from fresh weights, as long as they are worth it."""
    self_training: RoundsConfig = field(default_factory=RoundsConfig)
    """How rounds go on."""
    seed: int = 0
    """Seed of everything."""
    limit: int | None = None
    """Use only the first so many photographs."""
    workers: int | None = None
    """Parts at a time in the data stages; None: one more than there are cores, or what the cluster offers."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """On what the training runs."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where runs are recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Do everything again."""


_CHOICES = (
    *("learner", "masking", "backbone", "image_size", "width", "similarity"),
    *("steps", "batch", "learning_rate", "weight_decay", "ema", "split", "augment"),
)
"""Settings that replace the preset's where they are given."""


def train_config(config: MaskSplitJobConfig, photographs: Input) -> TrainJobConfig:
    """Return the settings of the training: the preset for the input, with what the user has chosen."""
    preset = preset_for(sample=config.photographs is None)
    untouched = (None, SplitConfig(), AugmentConfig())
    chosen = {name: getattr(config, name) for name in _CHOICES if getattr(config, name) not in untouched}
    preset = replace(preset, **chosen)
    return TrainJobConfig(
        collection=photographs.collection,
        output=storage.join(storage.absolute_uri(config.workdir), "models"),
        segmenter=SegmenterConfig(
            learner=preset.learner,
            masking=preset.masking,
            backbone=preset.backbone,
            backbone_weights=config.weights,
            image_size=preset.image_size,
            width=preset.width,
            similarity=preset.similarity,
            seed=config.seed,
        ),
        stream=StreamConfig(batch_size=preset.batch, lanes=preset.lanes, held_out=preset.held_out, seed=config.seed),
        split=preset.split,
        augment=preset.augment,
        training=OptimizerConfig(
            steps=preset.steps,
            learning_rate=preset.learning_rate,
            weight_decay=preset.weight_decay,
            ema=preset.ema,
        ),
        checkpoint_every=max(1, min(preset.checkpoint_every, preset.steps)),
        scale=config.scale,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )


def work(config: MaskSplitJobConfig) -> dict[str, object]:
    """Return the settings that decide the result, as plain values."""
    without = {"workers", "scale", "tracking", "dry_run", "overwrite"}
    return {name: value for name, value in to_dict(config).items() if name not in without}
