"""Settings of a three-stage self-training, and its presets."""

from collections.abc import Callable
from dataclasses import field, replace
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from fss.collection.part_io import check_name
from fss.core import storage
from fss.core.config import config_hash, settings, without_added
from fss.models.config import Precision
from fss.models.semantic.config import LOWER_STAGES, SemanticConfig
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    Stage,
    StageConfig,
    StrongConfig,
    ThreeStageConfig,
    WeakConfig,
)
from pipelines.runtime.config import FLAT, RequiredText, ScaleConfig, Subfolder, TrackingConfig

STAGES: tuple[Stage, ...] = (1, 2, 3)
VAL_MIOU = "val_miou"
STEP = "step"
STABLE = "stable"
"""Name of the acceptance with the pictures whose masks changed least during stage 1."""


@settings
class SelfTrainConfig:
    """Settings of the three-stage job."""

    collection: RequiredText = ""
    """Collection of all pictures, labelled or not: local folder or s3:// URI."""
    mask_set: str = "truth"
    """Mask set with the labels; pictures without a mask are unlabelled."""
    output: RequiredText = ""
    """Folder of all trainings, reachable from every node; the job writes into the subfolder with its name."""
    output_mask_set: str = "stage"
    """Prefix of the mask sets to write: stage gives stage-1, stage-2 and stage-3."""
    name: Subfolder | None = None
    """Name of the training; a stopped training of the same name resumes. None: network and configuration hash."""
    labelled: LabelledConfig = field(default_factory=LabelledConfig)
    """Selection of the labelled pictures."""
    val_collection: str | None = None
    """Labelled collection that validates the checkpoints; no mask and no later stage depends on it."""
    val_mask_set: str = "truth"
    """Mask set with the labels of the validation collection."""
    network: Annotated[SemanticConfig, FLAT] = field(default_factory=SemanticConfig)
    """Network; every stage starts from its initial weights."""
    stream: Annotated[SemanticStreamConfig, FLAT] = field(default_factory=SemanticStreamConfig)
    """Reading and augmentation of the pictures."""
    training: ThreeStageConfig = field(default_factory=ThreeStageConfig)
    """Optimisation."""
    precision: Precision = "fp32"
    """Precision of the arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    stable_share: Annotated[float, Gt(0), Le(1)] | None = None
    """Share of the pictures that stage 2 learns from: those whose masks agreed best over stage 1's checkpoints, as in
    ST++ with 0.5. Stage 3 learns from all pictures. None: both learn from all, as published."""
    checkpoint_every: Annotated[int, Ge(1)] = 1000
    """Steps between checkpoints; each is validated."""
    log_every: Annotated[int, Ge(1)] = 20
    """Steps between logged points of the curves."""
    scale: Annotated[ScaleConfig, FLAT] = field(default_factory=ScaleConfig)
    """Machines of the trainings; there are at most as many workers as pictures in a step, pool included."""
    data_workers: Annotated[int, Ge(1)] | None = None
    """Concurrent parts when masks are made on CPUs. None: one more than there are cores, or what the cluster
    offers."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and the augmentation."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the runs."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Delete an existing training and masks of this name and start again."""

    def __post_init__(self) -> None:
        check_name(self.stage_mask_set(STAGES[0]), "the mask set of stage 1 (output_mask_set)")
        if self.mask_set in map(self.stage_mask_set, STAGES):
            raise ValueError(
                f"mask_set is {self.mask_set!r}, which a stage would overwrite; give --output-mask-set another prefix "
                f"than {self.output_mask_set!r}"
            )
        if self.stream.cache_features and self.network.frozen_stages < LOWER_STAGES:
            raise ValueError(
                f"cache_features keeps the features of {LOWER_STAGES} frozen stages of the backbone, but "
                f"{self.network.frozen_stages} are frozen; set --frozen-stages {LOWER_STAGES}"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if self.val_collection is None:
            reasons["val_mask_set"] = "there is no validation collection; give --val-collection"
        if self.network.network != "deeplabv2":
            reasons["network.all_dilations"] = f"network is {self.network.network}; give --network deeplabv2"
        if self.labelled.count is None:
            reasons["labelled.seed"] = "labelled.count is None, so none are drawn; give --labelled.count"
        return reasons

    @property
    def score(self) -> str:
        """Name of the metric that selects the best checkpoint; the step without validation data."""
        return VAL_MIOU if self.val_collection else STEP

    def stage_mask_set(self, stage: Stage) -> str:
        """Return the name of a stage's mask set."""
        return f"{self.output_mask_set}-{stage}"

    def remarks(self) -> dict[str, str]:
        """Return what the plan says about settings that are without effect together."""
        if self.network.frozen_stages >= LOWER_STAGES and self.training.uses_masks(2):
            return {"masks of stage 1": "teach the second head of stage 2 alone, as it reads frozen layers"}
        return {}

    def snapshots(self) -> tuple[int, ...]:
        """Return the steps of stage 1 whose masks are compared with its final masks."""
        steps = self.training.first.steps
        return () if self.stable_share is None else (max(1, steps // 3), max(1, 2 * steps // 3))


HELP = {
    "data": ("collection", "mask-set", "output", "output-mask-set", "name", "val-collection", "labelled.count"),
    "network": ("network", "backbone", "backbone-weights", "stride", "frozen-stages"),
    "training": ("training.learning-rate", "training.second.steps", "weak.crop", "stable-share", "seed"),
    "machine": ("workers", "device", "precision", "cache-features", "data-workers"),
}
"""Flags of the short help."""


def with_seed(config: SelfTrainConfig) -> SelfTrainConfig:
    """Fill in the seeds of network and stream that are None with the seed of the job."""
    network, stream, seed = config.network, config.stream, config.seed
    return replace(
        config,
        network=replace(network, seed=seed if network.seed is None else network.seed),
        stream=replace(stream, seed=seed if stream.seed is None else stream.seed),
    )


def with_absolute_paths(config: SelfTrainConfig) -> SelfTrainConfig:
    """Make all paths of a configuration absolute, because workers run in other directories."""
    from pipelines.runtime.checkpoints import absolute_weights

    list_file, weights = config.labelled.list_file, absolute_weights(config.network.backbone_weights)
    return replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        val_collection=config.val_collection and storage.absolute_uri(config.val_collection),
        network=replace(config.network, backbone_weights=weights),
        labelled=replace(config.labelled, list_file=list_file and storage.absolute_uri(list_file)),
    )


_WITHOUT_EFFECT = {"decode_threads", "ahead", "cache_gb"}
"""Settings of the stream that change speed, not results."""
_FROZEN_NORM = {"all": True, "none": False}
"""Values of ``frozen_norm`` in fss 0.2, which count in hashes."""
_AUGMENTATION = 2
"""Version of the operations of the strong augmentation, which counts where it is used."""


def work_hash(config: SelfTrainConfig, data: dict[str, str]) -> str:
    """Return the hash of everything that determines the result: settings and ``data`` hashes.

    Two keys have the names of fss 0.1, and settings that an earlier version lacked count where they differ from their
    defaults, so that its trainings and mask sets stay valid.
    """
    stream, network = config.stream, without_added(config.network, ("frozen_stages",))
    strong = without_added(stream.strong, ("jitter", "grey", "blur", "mix", "mix_probability", "labelled"))
    if strong["operations"] or strong["cutouts"]:
        strong["version"] = _AUGMENTATION
    read = without_added(stream, ("cache_features",)) | {"strong": strong}
    del network["backbone_weights"]
    work: dict[str, Any] = {
        "masks": config.output_mask_set,
        "network": {
            **network,
            "frozen_norm": _FROZEN_NORM.get(config.network.frozen_norm, config.network.frozen_norm),
            "weights": data.get("weights"),
        },
        "stream": {name: value for name, value in read.items() if name not in _WITHOUT_EFFECT},
        "training": without_added(config.training, _ADDED_TRAINING),
        "stable_share": config.stable_share,
        "checkpoint_every": config.checkpoint_every,
    }
    if config.precision != "fp32":
        work["precision"] = config.precision
    return config_hash(work, data)


_ADDED_TRAINING = (
    *("start", "class_balance", "teacher_weight", "pseudo_weight", "consistency_on", "target"),
    *("ema_warm_up", "confidence_by_class", "mask_tta"),
)


def cityscapes() -> SelfTrainConfig:
    """Return the released settings for Cityscapes: half resolution, 100 labelled pictures, two-dilation DeepLabV2."""
    return SelfTrainConfig(
        labelled=LabelledConfig(count=100),
        network=SemanticConfig(
            network="deeplabv2",
            backbone="resnet101",
            backbone_weights="pretrained",
            all_dilations=False,
            stride=8,
            frozen_norm="all",
        ),
        stream=SemanticStreamConfig(weak=WeakConfig(crop=(256, 512), scales=(1.0, 1.0)), shrink=2),
        training=ThreeStageConfig(),
    )


def pascal() -> SelfTrainConfig:
    """Return the released settings for PASCAL VOC: 212 labelled pictures, a DeepLabV2 trained on MS-COCO."""
    stage = StageConfig(steps=60_000, labelled=1, pool=9)
    return SelfTrainConfig(
        labelled=LabelledConfig(count=212),
        network=SemanticConfig(
            network="deeplabv2", backbone="resnet101", pixels="coco", all_dilations=False, stride=8, frozen_norm="all"
        ),
        stream=SemanticStreamConfig(weak=WeakConfig(crop=(321, 321), scales=(0.5, 1.5))),
        training=ThreeStageConfig(
            first=StageConfig(steps=10_000, labelled=10, pool=0), second=stage, third=stage, supervised_weight=1.0
        ),
    )


def folder() -> SelfTrainConfig:
    """Return settings for any folder with few labels, which train for hours on one GPU instead of days.

    The class weights are those that did best on the labels alone in ``bench_three_stage.py``. The losses and the
    augmentation of the pool are those that equalled it (tests/benchmarks/README.md).
    """
    stage = StageConfig(steps=6000, labelled=4, pool=4)
    return SelfTrainConfig(
        network=SemanticConfig(network="deeplabv3", backbone="resnet50", backbone_weights="pretrained", stride=16),
        stream=SemanticStreamConfig(
            weak=WeakConfig(crop=(321, 321), scales=(0.5, 1.5)),
            strong=StrongConfig(operations=0, cutouts=0, jitter=0.8, grey=0.2, blur=0.5),
        ),
        training=ThreeStageConfig(
            first=StageConfig(steps=2000, labelled=8, pool=0),
            second=stage,
            third=stage,
            learning_rate=1e-3,
            backbone_learning_rate=1e-4,
            decay="poly",
            class_balance=0.5,
            supervised_weight=1.0,
            teacher_weight=1.0,
            target="confidence",
            ema=((0, 0.99), (20, 0.995), (40, 0.9975)),
            ema_warm_up=True,
            epoch_steps=100,
            mask_tta="flip",
        ),
        checkpoint_every=500,
    )


PRESETS: dict[str, Callable[[], SelfTrainConfig]] = {"cityscapes": cityscapes, "pascal": pascal, "folder": folder}
"""Presets by name."""
