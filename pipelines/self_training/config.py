"""The settings of a three-stage self-training, and where they start from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from fss.core.config import config_hash, to_dict
from fss.models.semantic.config import SemanticConfig
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    Stage,
    StageConfig,
    ThreeStageConfig,
    WeakConfig,
)
from pipelines.runtime.config import ScaleConfig, TrackingConfig

STAGES: tuple[Stage, ...] = (1, 2, 3)
VAL_MIOU = "val_miou"
STEP = "step"
STABLE = "stable"
"""Name of the acceptance that holds the pictures whose masks changed least while stage 1 learned."""


@dataclass(frozen=True, kw_only=True)
class SelfTrainConfig:
    """Settings of the three-stage job."""

    collection: str
    """All pictures, labelled or not: local folder or s3:// URI."""
    output: str
    """Folder of all trainings, reached by every node; this one goes into a folder of its name below."""
    name: str | None = None
    """Name of the training; None: network and configuration hash. The same name goes on where it stopped."""
    masks: str = "stage"
    """The stages' mask sets are <masks>-1, <masks>-2 and <masks>-3 of the collection."""
    labelled: LabelledConfig = field(default_factory=LabelledConfig)
    """Which pictures have labels."""
    val_collection: str | None = None
    """A labelled collection to measure checkpoints on; no mask and no next stage depends on it."""
    val_mask_set: str = "truth"
    """Its mask set."""
    network: SemanticConfig = field(default_factory=SemanticConfig)
    """The network; every stage starts from its initial weights."""
    stream: SemanticStreamConfig = field(default_factory=SemanticStreamConfig)
    """How pictures are read and changed."""
    training: ThreeStageConfig = field(default_factory=ThreeStageConfig)
    """The optimisation."""
    stable_share: float | None = None
    """Share of the pictures that stage 2 learns from: those whose masks agreed best over stage 1's checkpoints, as in
    ST++; stage 3 has all of them. None: both have all, as published."""
    checkpoint_every: int = 1000
    """Steps between checkpoints, each measured on the validation pictures."""
    log_every: int = 20
    """Steps between points of the curves."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """On what the stages train; workers must not exceed the labelled pictures in a step."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the masks are made."""
    mask_workers: int | None = None
    """Parts at a time when masks are made on CPUs; None: one more than there are cores, or what the cluster offers."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the runs are recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Start again, also when a training or masks of this name exist."""

    def __post_init__(self) -> None:
        if min(self.checkpoint_every, self.log_every) < 1:
            raise ValueError(
                f"checkpoint_every and log_every are 1 or more, got {self.checkpoint_every} and {self.log_every}"
            )
        if self.stable_share is not None and not 0 < self.stable_share <= 1:
            raise ValueError(f"stable_share is a share in (0, 1], got {self.stable_share}; ST++ keeps 0.5")
        if self.labelled.mask_set in map(self.mask_set, STAGES):
            raise ValueError(f"the labels are mask set {self.labelled.mask_set!r}: choose another name for masks")

    @property
    def score(self) -> str:
        """Name of the figure that tells the best checkpoint; without validation pictures that is the last."""
        return VAL_MIOU if self.val_collection else STEP

    def mask_set(self, stage: Stage) -> str:
        """Return the name of a stage's mask set."""
        return f"{self.masks}-{stage}"

    def snapshots(self) -> tuple[int, ...]:
        """Return the steps of stage 1 whose masks are compared with the last ones."""
        steps = self.training.first.steps
        return () if self.stable_share is None else (max(1, steps // 3), max(1, 2 * steps // 3))


_WITHOUT_EFFECT = ("decode_threads", "ahead", "cache_gb")  # of the stream: how fast, not what


def work_hash(config: SelfTrainConfig, data: dict[str, str]) -> str:
    """Return the hash of what decides the result: settings and ``data`` hashes, not places, workers or logging."""
    values: dict[str, Any] = to_dict(config)
    kept = ("masks", "network", "stream", "training", "stable_share", "checkpoint_every")
    work = {name: values[name] for name in kept}
    work["stream"] = {name: value for name, value in work["stream"].items() if name not in _WITHOUT_EFFECT}
    work["network"] = {**work["network"], "backbone_weights": data.get("weights")}
    return config_hash(work, data)


def cityscapes(*, collection: str, output: str) -> SelfTrainConfig:
    """Return the released settings for Cityscapes: half resolution, 100 labelled pictures, two-dilation DeepLabV2."""
    return SelfTrainConfig(
        collection=collection,
        output=output,
        labelled=LabelledConfig(count=100),
        network=SemanticConfig(
            network="deeplabv2", backbone="resnet101", backbone_weights="pretrained", all_dilations=False, stride=8
        ),
        stream=SemanticStreamConfig(weak=WeakConfig(crop=(256, 512), scales=(1.0, 1.0)), shrink=2),
        training=ThreeStageConfig(),
    )


def pascal(*, collection: str, output: str) -> SelfTrainConfig:
    """Return the released settings for PASCAL VOC: 212 labelled pictures, a DeepLabV2 trained on MS-COCO."""
    stage = StageConfig(steps=60_000, labelled=1, pool=9)
    return SelfTrainConfig(
        collection=collection,
        output=output,
        labelled=LabelledConfig(count=212),
        network=SemanticConfig(network="deeplabv2", backbone="resnet101", pixels="coco", all_dilations=False, stride=8),
        stream=SemanticStreamConfig(weak=WeakConfig(crop=(321, 321), scales=(0.5, 1.5))),
        training=ThreeStageConfig(
            first=StageConfig(steps=10_000, labelled=10, pool=0), second=stage, third=stage, supervised_weight=1.0
        ),
    )


def folder(*, collection: str, output: str) -> SelfTrainConfig:
    """Return settings for any folder with few labels: hours on one GPU instead of days, and every mask counts."""
    stage = StageConfig(steps=6000, labelled=4, pool=4)
    return SelfTrainConfig(
        collection=collection,
        output=output,
        network=SemanticConfig(network="deeplabv3", backbone="resnet50", backbone_weights="pretrained", stride=16),
        stream=SemanticStreamConfig(weak=WeakConfig(crop=(321, 321), scales=(0.5, 1.5))),
        training=ThreeStageConfig(
            first=StageConfig(steps=2000, labelled=8, pool=0),
            second=stage,
            third=stage,
            learning_rate=1e-3,
            backbone_learning_rate=1e-4,
            decay="poly",
            supervised_weight=1.0,
            ema=((0, 0.99), (20, 0.995), (40, 0.9975)),
            epoch_steps=100,
            ramp_up=1000,
        ),
        checkpoint_every=500,
    )


PRESETS: dict[str, Callable[..., SelfTrainConfig]] = {"cityscapes": cityscapes, "pascal": pascal, "folder": folder}
"""Presets by name; each takes the collection and the output."""
