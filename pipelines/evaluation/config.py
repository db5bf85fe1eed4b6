"""The settings of an evaluation, and the episode plans that follow from them."""

from dataclasses import dataclass, field
from typing import Literal

from fss.collection import ClassIndex, Collection
from fss.episodes.benchmarks import benchmark_plan, choose_fold
from fss.episodes.config import Benchmark, Order, ProtocolName
from fss.episodes.episode_plan import EpisodePlan, make_plan
from fss.models.config import Fusion
from fss.saliency import SaliencyConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.model_source import ModelSource, model_source

Learner = Literal["masksplit", "hsnet", "asnet", "vat"]
Masking = Literal["none", "feature", "input", "hybrid"]
EPISODES = 1000


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of the evaluation job."""

    checkpoint: str
    """The model: folder of a checkpoint of fss (local or s3:// URI), a published checkpoint's file, or an MLflow model
    (models:/..., runs:/<run>/model)."""
    collection: str
    """A labelled collection."""
    output: str
    """Folder of the results."""
    learner: Learner | None = None
    """Of a published file: its network."""
    masking: Masking | None = None
    """Of a published file: how masks enter the support features."""
    backbone: str | None = None
    """Of a published file: resnet50, resnet101 or vgg16."""
    backbone_weights: str | None = None
    """Of a published file without a backbone: a state dict's path, or pretrained."""
    benchmark: Benchmark | None = None
    """Take classes and episodes of a public benchmark's fold; also says what a published file was trained for."""
    fold: int | None = None
    """Fold of the benchmark, 0 to 3; FSS-1000 has none."""
    order: Order = "interleaved"
    """How COCO-20i deals its classes to the folds."""
    protocol: ProtocolName = "ours"
    """How episodes are drawn; hsnet, ifsl and masksplit are published protocols of the benchmarks."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code, for the published lists; None: lists are derived from the masks."""
    truth: str = "truth"
    """Mask set that holds the ground truth."""
    classes: str | None = None
    """Class split to evaluate on, such as novel or test; None: all classes, or those of the benchmark's fold."""
    episodes: int | None = None
    """Episodes per plan; None: 1000, or the protocol's own number."""
    shots: tuple[int, ...] = (1, 5)
    """Supports per episode; one plan for each. All plans of protocol ours have the same queries."""
    seed: int = 0
    """Seed of the plans; 0 gives the published episodes."""
    min_pixels: int = 1
    """Pictures that show less of a class are no episodes of it."""
    size: int | None = None
    """Pixels a side at which pictures are seen and scored; None: the model's."""
    original_size: bool = False
    """Score at each query's own size: logits are resized to it before the decision."""
    fusion: Fusion = "joint"
    """How several shots become one answer."""
    baselines: bool = True
    """Evaluate all foreground, the query's saliency and the untrained prototype too."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Of the saliency baseline."""
    visualizations: int = 4
    """Episodes to draw of each kind: best, worst and at random, by the model's IoU, besides the same eight of the plan
    for every model; 0: none."""
    workers: int | None = None
    """Tasks at a time; None: one per GPU, or per core where there is none; 0: in this process, without Ray."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Evaluate again, also where the result is there."""

    def source(self) -> ModelSource:
        """Return where the model comes from."""
        return model_source(
            self.checkpoint,
            learner=self.learner,
            masking=self.masking,
            backbone=self.backbone,
            benchmark=self.benchmark,
            weights=self.backbone_weights,
            tracking=self.tracking.uri,
        )


def make_plans(config: EvaluateConfig) -> list[EpisodePlan]:
    """Draw the plans of an evaluation: the same for every model.

    Raises:
        ValueError: no such class split, a published protocol without a benchmark, or too few pictures of a class.
    """
    collection = Collection.open(config.collection)
    if config.benchmark is not None:
        return _benchmark_plans(config, collection)
    if config.protocol != "ours" or config.fold is not None:
        raise ValueError("published protocols and folds belong to a benchmark: give --benchmark, or protocol ours")
    splits = collection.class_splits
    if config.classes is not None and config.classes not in splits:
        known = ", ".join(splits) or "none"
        raise ValueError(f"the collection {collection.uri} has no class split {config.classes!r}; it has {known}")
    index = ClassIndex.build(collection.mask_set(config.truth), min_pixels=config.min_pixels)
    fingerprint = collection.fingerprint()
    return [
        make_plan(
            index,
            classes=None if config.classes is None else splits[config.classes],
            episodes=config.episodes or EPISODES,
            shots=shots,
            seed=config.seed,
            fingerprint=fingerprint,
        )
        for shots in config.shots
    ]


def _benchmark_plans(config: EvaluateConfig, collection: Collection) -> list[EpisodePlan]:
    assert config.benchmark is not None
    if config.classes is not None:
        raise ValueError("a benchmark's fold says which classes are tested: give --benchmark or --classes, not both")
    fold = choose_fold(collection, config.benchmark, config.fold, order=config.order, split_folder=config.split_folder)
    truth = collection.mask_set(config.truth)
    return [
        benchmark_plan(
            collection,
            truth,
            fold,
            protocol=config.protocol,
            shots=shots,
            episodes=config.episodes,
            seed=config.seed,
            split_folder=config.split_folder,
        )
        for shots in config.shots
    ]
