"""Settings of an evaluation."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from fss.core.config import settings
from fss.episodes.config import Benchmark, Order, ProtocolName
from fss.models.config import Fusion
from fss.saliency.config import SaliencyConfig
from pipelines.runtime.config import Device, RequiredText, TrackingConfig

Learner = Literal["masksplit", "hsnet", "asnet", "vat"]
Masking = Literal["none", "feature", "input", "hybrid"]
EPISODES = 1000


@settings
class EvaluateSettings:
    """How a segmenter is evaluated: everything but the model, the pictures and where results are written."""

    classes: str | None = None
    """Class split to evaluate on, such as novel or test. None: all classes, or those of the benchmark's fold."""
    episodes: Annotated[int, Ge(1)] | None = None
    """Episodes per plan. None: 1000, or the protocol's own number."""
    shots: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 5)
    """Supports per episode; one plan for each number. All plans of protocol ours have the same queries."""
    min_pixels: Annotated[int, Ge(1)] = 1
    """Fewest pixels of a class that make a picture an episode of it."""
    image_size: Annotated[int, Ge(1)] | None = None
    """Side in pixels at which pictures are seen and scored. None: the model's."""
    original_size: bool = False
    """Score at each query's own size: logits are resized to it before the decision."""
    fusion: Fusion = "joint"
    """Rule that joins the answers of several shots."""
    baselines: bool = True
    """Evaluate three baselines too: all foreground, the query's saliency and the untrained prototype."""
    visualizations: Annotated[int, Ge(0)] = 4
    """Episodes to draw of each kind (best, worst, random by the model's IoU), besides eight fixed ones of the plan."""


@settings
class EvaluateJobConfig(EvaluateSettings):
    """Settings of the evaluation job."""

    model: RequiredText = ""
    """Segmenter: folder of a checkpoint (local or s3:// URI), a published checkpoint's file, or an MLflow model
    (models:/..., runs:/<run>/model)."""
    collection: RequiredText = ""
    """Labelled collection to evaluate on: local folder or s3:// URI."""
    mask_set: str = "truth"
    """Mask set that holds the ground truth."""
    output: RequiredText = ""
    """Folder of the results."""
    learner: Learner | None = None
    """Learner of a published checkpoint's file."""
    masking: Masking | None = None
    """Masking strategy of a published checkpoint's file."""
    backbone: str | None = None
    """Backbone of a published checkpoint's file: resnet50, resnet101 or vgg16."""
    backbone_weights: str | None = None
    """Backbone weights for a published checkpoint's file that holds none: a state dict's path, or pretrained."""
    benchmark: Benchmark | None = None
    """Public benchmark whose fold gives classes and episodes; it also says what a published file was trained for."""
    fold: Annotated[int, Ge(0)] | None = None
    """Fold of the benchmark, 0 to 3; FSS-1000 has none."""
    order: Order = "interleaved"
    """Assignment of COCO-20i's classes to the folds."""
    protocol: ProtocolName = "ours"
    """Protocol that draws the episodes; hsnet, ifsl and masksplit are published protocols of the benchmarks."""
    split_folder: str | None = None
    """Folder data/splits of HSNet's code, for the published lists. None: lists are derived from the masks."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Estimator of the saliency baseline."""
    seed: int = 0
    """Seed of the plans; 0 gives the published episodes."""
    device: Device = "auto"
    """Device of the networks."""
    workers: Annotated[int, Ge(0)] | None = None
    """Processes at a time. None: one per GPU, or per core where there is none; 0: this process, without Ray."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""
    overwrite: bool = False
    """Evaluate again, also where the result exists."""

    def __post_init__(self) -> None:
        if self.benchmark is None and (self.protocol != "ours" or self.fold is not None):
            raise ValueError(
                f"protocol is {self.protocol!r} and fold is {self.fold}, which belong to a benchmark; give "
                "--benchmark, or leave both out"
            )
        if self.benchmark is not None and self.classes is not None:
            raise ValueError("a benchmark's fold gives the classes; give --benchmark or --classes, not both")


HELP = {
    "data": ("model", "collection", "mask-set", "output", "classes"),
    "episodes": ("shots", "episodes", "benchmark", "fold", "protocol", "seed"),
    "machine": ("workers", "device", "image-size", "visualizations"),
}
"""Flags of the short help."""
