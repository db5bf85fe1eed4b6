"""Settings of the main job, with the nested settings of the jobs that it runs."""

from dataclasses import field, replace
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge

from fss.core import storage
from fss.core.config import settings, to_dict
from fss.relabel.config import RelabelConfig
from pipelines.evaluation.config import EvaluateJobConfig, EvaluateSettings
from pipelines.masks.config import (
    IngestConfig,
    PseudomaskJobConfig,
    PseudomaskSettings,
    TrainSaliencyConfig,
    TrainSaliencySettings,
)
from pipelines.relabeling.config import RelabelJobConfig, RelabelSettings
from pipelines.runtime.config import FLAT, PartFailureConfig, TrackingConfig
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job


@settings
class SampleConfig:
    """The painted sample, which the job uses without photographs."""

    unlabelled: Annotated[int, Ge(1)] = 384
    """Pictures to paint for training."""
    labelled: Annotated[int, Ge(1)] = 192
    """Pictures to paint for evaluation."""


def own_masks() -> RelabelSettings:
    """Return the default settings of rounds: the support of each picture is its own mask.

    They were selected on photographs with ground truth. The supports are halves of the mask, as in training. The
    threshold is low, because the network learned to segment the other half of an object and is unsure of a whole one.
    Outlines are aligned with edges.
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
    collection. None: pictures of the painted sample, or no evaluation if photographs are given."""
    output: str = "runs/masksplit"
    """Folder of all outputs: local folder or s3:// URI."""
    limit: Annotated[int, Ge(1)] | None = None
    """Largest number of photographs, in the order of their paths. None: all."""
    part_size: Annotated[int, Ge(1)] | None = None
    """Photographs per part, which is the unit of work and resume. None: as many as the ingest chooses."""
    drop_duplicates: bool = False
    """Quarantine photographs that nearly repeat another one or a picture of the evaluation."""
    sample: SampleConfig = field(default_factory=SampleConfig)
    """Painted sample."""
    pseudomask: Annotated[PseudomaskSettings, FLAT] = field(default_factory=PseudomaskSettings)
    """Pseudo-masks and their acceptance."""
    saliency_student: Literal["none", "auto"] = "none"
    """Masks to train on: those of the estimator, as published (none), or those of a saliency student that is trained on
    them (auto). With auto, --saliency-prior auto makes the student the segmenter's prior as well."""
    saliency_training: TrainSaliencySettings = field(default_factory=TrainSaliencySettings)
    """Training of the saliency student. If its backbone weights are None, it takes those of the segmenter."""
    answer: Literal["auto", "network"] = "auto"
    """What segments. network: the trained network alone, as published. auto: where the job trains a saliency student,
    and the learner is masksplit with --masking none, the network joined with the learner density, as by
    --density-prior --saliency-prior auto; otherwise the network alone."""
    train: Annotated[TrainSettings, FLAT] = field(default_factory=TrainSettings)
    """Training."""
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    """Evaluation. If evaluate.classes is None, it uses the class split novel or test if there is one."""
    rounds: Annotated[int, Ge(0)] = 0
    """Rounds of self-training: relabel with the trained network, and train on the new masks from fresh weights."""
    relabel: Annotated[RelabelSettings, tyro.conf.arg(name="self-training")] = field(default_factory=own_masks)
    """Masks and gate of the rounds of self-training."""
    seed: int = 0
    """Seed of every stage; the draws of a relabelling have their own (self-training.relabel.seed)."""
    data_workers: Annotated[int, Ge(1)] | None = None
    """Parts processed at a time in the data stages. None: one more than there are cores, or what the cluster has."""
    failures: Annotated[PartFailureConfig, FLAT] = field(default_factory=PartFailureConfig)
    """Parts of the data stages that fail."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Tracking of the runs."""
    dry_run: bool = False
    """Show the resolved settings and the planned work, and stop."""
    overwrite: bool = False
    """Repeat all stages."""

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

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if self.photographs is not None:
            reasons["sample"] = "photographs are given, so no sample is painted; leave --photographs out"
            if self.evaluation is None:
                reasons["evaluate"] = "there are no labelled pictures to evaluate on; give --evaluation"
        elif self.evaluation is not None:
            reasons["sample.labelled"] = "labelled pictures are given; leave --evaluation out"
        if self.saliency_student == "none":
            reasons["saliency_training"] = "no saliency student is trained; give --saliency-student auto"
        if self.rounds == 0:
            reasons["relabel"] = "there are no rounds of self-training; give --rounds 1 or more"
        return reasons

    def train_job(self, collection: str) -> TrainJobConfig:
        """Return the configuration of the training on a collection; this configuration is resolved."""
        output = storage.join(storage.absolute_uri(self.output), "models")
        job: dict[str, Any] = {"collection": storage.absolute_uri(collection), "output": output, "seed": self.seed}
        return train_job(self.train, **job, tracking=self.tracking, overwrite=self.overwrite)

    def pseudomask_job(self, collection: str) -> PseudomaskJobConfig:
        """Return the configuration of the pseudo-mask job on a collection."""
        classical = self.pseudomask.estimator == "classical"
        return PseudomaskJobConfig(
            **_fields(self.pseudomask),
            collection=collection,
            device="cpu" if classical else self.train.scale.device,
            precision="fp32" if classical else self.train.optimizer.precision,
            failures=self.failures,
            **self._data_stage(),
        )

    def train_saliency_job(self, collection: str) -> TrainSaliencyConfig:
        """Return the configuration of the training of the saliency student; this configuration is resolved."""
        return TrainSaliencyConfig(
            **_fields(self.saliency_training),
            collection=storage.absolute_uri(collection),
            output=storage.join(storage.absolute_uri(self.output), "students"),
            seed=self.seed,
            device=self.train.scale.device,
            precision=self.train.optimizer.precision,
            tracking=self.tracking,
            overwrite=self.overwrite,
        )

    def student_mask_job(self, collection: str, student: str, mask_set: str) -> PseudomaskJobConfig:
        """Return the configuration of the job that makes the masks of the saliency student."""
        settings = replace(self.pseudomask, estimator="student", student=student)
        job = replace(self, pseudomask=settings).pseudomask_job(collection)
        return replace(job, output_mask_set=mask_set)

    def relabel_job(self, *, collection: str, model: str, mask_set: str, output_mask_set: str) -> RelabelJobConfig:
        """Return the configuration of a round's relabelling."""
        return RelabelJobConfig(
            **_fields(self.relabel),
            collection=collection,
            model=model,
            mask_set=mask_set,
            output_mask_set=output_mask_set,
            device=self.train.scale.device,
            failures=self.failures,
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

    def ingest_job(self, **inputs: Any) -> IngestConfig:
        """Return the configuration of an ingest; ``inputs`` are the fields that differ between the two inputs."""
        return IngestConfig(
            workers=self.data_workers,
            failures=self.failures,
            tracking=self.tracking,
            overwrite=self.overwrite,
            **inputs,
        )

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
    "training": (
        *("steps", "batch-size", "learning-rate", "training-size", "split.distractor"),
        *("saliency-student", "answer", "rounds", "seed"),
    ),
    "machine": ("workers", "device"),
}
"""Flags of the short help."""


def work(config: MaskSplitJobConfig) -> dict[str, Any]:
    """Return the settings that determine the result, as plain values."""
    values = to_dict(config)
    without = {"output", "answer", "data_workers", "failures", "tracking", "dry_run", "overwrite"}
    work = {name: value for name, value in values.items() if name not in without}
    work["train"] = {name: value for name, value in work["train"].items() if name != "scale"}
    for group in (work["evaluate"], work["train"]["classes"]):
        if not group["skip_small_classes"]:  # the first version did not have it
            del group["skip_small_classes"]
    if work["evaluate"]["scales"] == "whole":  # fss 0.2 had whole queries only
        del work["evaluate"]["scales"]
    if not work["evaluate"]["flip"]:
        del work["evaluate"]["flip"]
    if work["evaluate"]["refine"] == "auto":  # fss 0.2 had no choice
        del work["evaluate"]["refine"]
    work["train"] |= {"segmenter": config.train.segmenter.identity(), "augment": config.train.augment.identity()}
    work["train"]["split"] = config.train.split.identity()
    stream = work["train"]["stream"] = config.train.stream.identity()
    stream |= {"decode_threads": 2, "cache_gb": 4.0}  # without effect; these values keep the first version's hash
    del stream["decoders"]
    if config.saliency_student == "none":  # the first versions had no student
        del work["saliency_student"], work["saliency_training"]
    if not work["drop_duplicates"]:
        del work["drop_duplicates"]
    work["part_size"] = work["part_size"] or 64  # its default in the first version, which decides nothing by itself
    return work


def _fields(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}
