"""Settings of an evaluation."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from fss.core.config import settings
from fss.episodes.config import Benchmark, Order, ProtocolName
from fss.models.config import NO_PRIOR, DensityConfig, Fusion, Masking, Precision, Scales
from fss.saliency.config import SaliencyConfig
from pipelines.runtime.config import Device, RequiredText, TrackingConfig

Learner = Literal["masksplit", "hsnet", "asnet", "vat", "density"]
EPISODES = 1000


@settings
class EvaluateSettings:
    """Settings of an evaluation, without its inputs and outputs."""

    classes: str | None = None
    """Class split to evaluate on, such as novel or test. None: all classes, or the classes of the benchmark's fold."""
    episodes: Annotated[int, Ge(1)] | None = None
    """Episodes per plan. None: 1000, or the protocol's own number."""
    shots: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 5)
    """Supports per episode, with one plan for each number. All plans of the protocol ours have the same queries."""
    min_pixels: Annotated[int, Ge(1)] = 1
    """Fewest pixels of a class in a picture that is used for the class."""
    skip_small_classes: bool = False
    """Leave out classes with too few pictures for the largest number of shots, instead of refusing to evaluate."""
    image_size: Annotated[int, Ge(1)] | None = None
    """Side of the pictures in pixels, for prediction and scores. None: the image size of the model."""
    original_size: bool = False
    """Score at the original size of each query, to which the logits are resized before the decision."""
    fusion: Fusion = "joint"
    """Rule that joins the predictions of several shots."""
    scales: Scales = "whole"
    """Scales in which the model sees queries: whole (one pass), adaptive (small objects also in nine tiles) or tiles
    (every query in ten passes); the baselines see whole queries."""
    flip: bool = False
    """Let the model see queries mirrored too, in a second pass; the baselines do not."""
    refine: Literal["auto", "yes", "no"] = "auto"
    """Let the outlines of the model and of the density baselines follow the edges of the queries, as fss predict does.
    auto: yes, but not under a published protocol, nor with a fusion that votes or averages."""
    precision: Precision = "fp32"
    """Precision of the arithmetic: fp32, tf32 (rounded factors on NVIDIA GPUs) or bf16 (autocast)."""
    baselines: bool = True
    """Also evaluate four baselines: all foreground, the query's saliency, the untrained prototype and the untrained
    density ratio."""
    presence_episodes: Annotated[int, Ge(0)] = 200
    """Episodes of each plan on which confidence and presence are measured, and as many without the object; 0: none."""
    visualizations: Annotated[int, Ge(0)] = 4
    """Episodes to draw of each kind (best and worst by the model's IoU, and random), besides eight fixed ones."""

    def __post_init__(self) -> None:
        if self.refine == "yes" and self.fusion != "joint":
            raise ValueError(
                f"refine is yes, but the fusion {self.fusion} leaves no joint probability to refine; give --fusion "
                "joint, or leave --refine out"
            )
        if len(set(self.shots)) < len(self.shots):
            raise ValueError(f"shots are {', '.join(map(str, self.shots))}; give each number once")


@settings
class EvaluateJobConfig(EvaluateSettings):
    """Settings of the evaluation job."""

    model: str | None = None
    """Segmenter: folder of a checkpoint (local or s3:// URI), a published checkpoint's file, or an MLflow model
    (models:/..., runs:/<run>/model). None: the training-free one of --learner density."""
    collection: RequiredText = ""
    """Labelled collection to evaluate on: local folder or s3:// URI."""
    mask_set: str = "truth"
    """Mask set that holds the ground truth."""
    output: RequiredText = ""
    """Folder of the results."""
    learner: Learner | None = None
    """Learner of a published checkpoint's file; density needs no model."""
    masking: Masking | None = None
    """Masking strategy of a published checkpoint's file."""
    backbone: str | None = None
    """Backbone of a published checkpoint's file (resnet50, resnet101 or vgg16), or of density (any; by default
    mobilenet_v2)."""
    backbone_weights: str | None = None
    """Backbone weights for density or a published file without a backbone: a torch or safetensors file, or pretrained
    (the default of density)."""
    saliency_prior: str | None = None
    """Saliency student whose map of the query density uses as a prior: a student.safetensors of
    pipelines.train_saliency."""
    density: DensityConfig = field(default_factory=DensityConfig)
    """Settings of the learner density."""
    benchmark: Benchmark | None = None
    """Public benchmark whose fold selects classes and episodes, and that a published file was trained for."""
    fold: Annotated[int, Ge(0)] | None = None
    """Fold of the benchmark, 0 to 3; FSS-1000 has no folds."""
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
    """Concurrent processes. None: one per GPU or core, machines that join included; 0: this process, without Ray."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the run."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Evaluate again, even if the result exists."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.benchmark is None and (self.protocol != "ours" or self.fold is not None):
            raise ValueError(
                f"protocol is {self.protocol!r} and fold is {self.fold}, which belong to a benchmark; give "
                "--benchmark, or leave both out"
            )
        if self.skip_small_classes and self.protocol in ("hsnet", "ifsl"):
            raise ValueError(
                f"skip_small_classes is set, but the published episodes of {self.protocol} have all classes; give "
                "--protocol ours or masksplit, or leave --skip-small-classes out"
            )
        if self.benchmark is not None and self.classes is not None:
            raise ValueError("the fold of a benchmark selects the classes; give --benchmark or --classes, not both")
        if self.benchmark is not None and self.min_pixels != 1:
            raise ValueError(
                f"min_pixels is {self.min_pixels}, but a benchmark has a rule of its own for small objects; give "
                "--benchmark or --min-pixels, not both"
            )
        if self.benchmark is None and self.split_folder is not None:
            raise ValueError("split_folder has the lists of a benchmark; give --benchmark too, or leave it out")
        if self.benchmark not in ("coco", "coco-to-pascal") and self.order != "interleaved":
            raise ValueError(
                f"order is {self.order}, which is for the folds of COCO-20i; give --benchmark coco or coco-to-pascal, "
                "or leave --order out"
            )

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if not self.baselines:
            reasons["saliency"] = "it is the saliency baseline's, but baselines is off; give --baselines"
        if self.benchmark == "fss":
            reasons["fold"] = "FSS-1000 has no folds; give another --benchmark"
        elif self.protocol not in ("hsnet", "ifsl"):
            reasons["split_folder"] = f"protocol {self.protocol} draws from the masks; give --protocol hsnet or ifsl"
        if self.saliency_prior is None:
            reasons |= dict.fromkeys(("density.prior_weight", "density.prior_center"), NO_PRIOR)
        return reasons

    @property
    def refines(self) -> bool:
        """Whether outlines follow the edges of the queries."""
        return self.refine == "yes" or (self.refine == "auto" and (self.protocol, self.fusion) == ("ours", "joint"))


HELP = {
    "data": ("model", "collection", "mask-set", "output", "classes"),
    "episodes": ("shots", "episodes", "benchmark", "fold", "protocol", "seed"),
    "machine": ("workers", "device", "image-size", "visualizations"),
}
"""Flags of the short help."""
