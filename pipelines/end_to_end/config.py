"""Settings of the main job: those of the jobs that it runs, nested, and the few of its own."""

from dataclasses import field, replace
from typing import Annotated, Any

import tyro
from annotated_types import Ge

from fss.core import storage
from fss.core.config import settings, to_dict
from fss.relabel.config import RelabelConfig
from pipelines.evaluation.config import EvaluateJobConfig, EvaluateSettings
from pipelines.masks.config import IngestConfig, PseudomaskJobConfig, PseudomaskSettings
from pipelines.relabeling.config import RelabelJobConfig, RelabelSettings
from pipelines.runtime.config import FLAT, TrackingConfig
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job, with_absolute_paths, with_seed


@settings
class SampleConfig:
    """The painted sample, which stands in where no photographs are given."""

    unlabelled: Annotated[int, Ge(1)] = 384
    """Pictures to paint for training."""
    labelled: Annotated[int, Ge(1)] = 192
    """Pictures to paint for evaluation."""


def own_masks() -> RelabelSettings:
    """Return how rounds make masks again by default: each picture's own mask is the support.

    Chosen on photographs with a truth to audit by. Supports are halves of the mask, as in training; the threshold is
    low, because the network learned to find the other half and is unsure of a whole object; outlines follow edges.
    """
    relabel = RelabelConfig(supports="self", foreground=0.25, background=0.25, edges=True)
    return RelabelSettings(relabel=relabel, accept_quantile=0.65)


@settings
class MaskSplitJobConfig:
    """Settings of the main job."""

    photographs: str | None = None
    """Photographs to learn from: a folder, an s3:// URI, or an existing collection. None: the painted sample."""
    evaluation: str | None = None
    """Labelled pictures to evaluate on: <class>/<n>.jpg with .png masks, images/ beside masks/, or an existing
    collection. None: the painted sample's, or no evaluation of your own photographs."""
    output: str = "runs/masksplit"
    """Folder of everything that the job writes: local folder or s3:// URI."""
    limit: Annotated[int, Ge(1)] | None = None
    """Most photographs to use, in the order of their paths. None: all."""
    part_size: Annotated[int, Ge(1)] = 64
    """Photographs in a part, the unit of work and resume."""
    sample: SampleConfig = field(default_factory=SampleConfig)
    """The painted sample."""
    pseudomask: Annotated[PseudomaskSettings, FLAT] = field(default_factory=PseudomaskSettings)
    """How pseudo-masks are found and accepted."""
    train: Annotated[TrainSettings, FLAT] = field(default_factory=TrainSettings)
    """What is trained and how."""
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    """How the segmenter is evaluated. With classes None a split named novel or test is taken where there is one."""
    rounds: Annotated[int, Ge(0)] = 0
    """Rounds of self-training: make the masks again with the trained network and train on them from fresh weights."""
    relabel: Annotated[RelabelSettings, tyro.conf.arg(name="self-training")] = field(default_factory=own_masks)
    """How a round makes its masks, and when rounds stop."""
    seed: int = 0
    """Seed of every stage."""
    data_workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time in the data stages. None: one more than there are cores, or what the cluster offers."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where runs are recorded."""
    dry_run: bool = False
    """Show the resolved settings and what would be done, and stop."""
    overwrite: bool = False
    """Do everything again."""

    def __post_init__(self) -> None:
        if self.train.episodes == "classes":
            raise ValueError(
                "episodes is classes, but pseudo-masks have no classes; leave --episodes out, or run pipelines.train "
                "on a labelled collection"
            )
        if self.relabel.relabel.supports == "bank":
            raise ValueError(
                "self-training.relabel.supports is bank, but rounds have no labelled shots; give neighbours or self, "
                "or run pipelines.relabel"
            )

    def train_job(self, collection: str) -> TrainJobConfig:
        """Return the configuration of the training on a collection."""
        what = with_seed(self.train, self.seed)
        steps = what.optimizer.steps
        what = replace(what, checkpoint_every=min(what.checkpoint_every, steps))
        output = storage.join(storage.absolute_uri(self.output), "models")
        where: dict[str, Any] = {"collection": collection, "output": output, "seed": self.seed}
        return with_absolute_paths(train_job(what, **where, tracking=self.tracking, overwrite=self.overwrite))

    def pseudomask_job(self, collection: str) -> PseudomaskJobConfig:
        """Return the configuration of the pseudo-mask job on a collection."""
        device = "cpu" if self.pseudomask.estimator == "classical" else self.train.scale.device
        return PseudomaskJobConfig(
            **_fields(self.pseudomask), collection=collection, device=device, **self._data_stage()
        )

    def relabel_job(self, *, collection: str, model: str, mask_set: str, output_mask_set: str) -> RelabelJobConfig:
        """Return the configuration of a round's relabelling."""
        return RelabelJobConfig(
            **_fields(self.relabel),
            collection=collection,
            model=model,
            mask_set=mask_set,
            output_mask_set=output_mask_set,
            device=self.train.scale.device,
            **self._data_stage(),
        )

    def evaluate_job(self, *, collection: str, model: str, name: str) -> EvaluateJobConfig:
        """Return the configuration of the evaluation of a model."""
        return EvaluateJobConfig(
            **_fields(self.evaluate),
            model=model,
            collection=collection,
            output=storage.join(storage.absolute_uri(self.output), "results", name),
            saliency=self.pseudomask.saliency,
            device=self.train.scale.device,
            **self._data_stage(),
        )

    def ingest_job(self, **where: Any) -> IngestConfig:
        """Return the configuration of an ingest; ``where`` are the fields that differ between the two inputs."""
        return IngestConfig(workers=self.data_workers, tracking=self.tracking, overwrite=self.overwrite, **where)

    def _data_stage(self) -> dict[str, Any]:
        return {
            "workers": self.data_workers,
            "seed": self.seed,
            "tracking": self.tracking,
            "overwrite": self.overwrite,
        }


HELP = {
    "data": ("photographs", "evaluation", "output", "limit"),
    "network": ("learner", "masking", "backbone", "backbone-weights", "image-size"),
    "training": ("steps", "batch-size", "learning-rate", "split.distractor", "rounds", "seed"),
    "machine": ("workers", "device"),
}
"""Flags of the short help."""


def work(config: MaskSplitJobConfig) -> dict[str, Any]:
    """Return the settings that decide the result, as plain values."""
    values = to_dict(config)
    without = {"output", "data_workers", "tracking", "dry_run", "overwrite"}
    work = {name: value for name, value in values.items() if name not in without}
    work["train"] = {name: value for name, value in work["train"].items() if name != "scale"}
    return work


def _fields(what: Any) -> dict[str, Any]:
    return {name: getattr(what, name) for name in what.__dataclass_fields__}
