"""The needs of a claim: a collection, a model per fold, and the settings of its trainings and evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fss.core import storage
from fss.episodes.config import Benchmark, ProtocolName
from fss.episodes.folds import FOLDS
from fss.evaluation.claims import Claim
from fss.models.config import TRAINING_FREE, Fusion
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.reproduction.config import ReproduceConfig
from pipelines.reproduction.expected import SUFFIXES, Absent, absent_checkpoints, absent_collection
from pipelines.reproduction.training import (
    backbone_weights,
    missing_for_training,
    trained_model,
    training,
    training_command,
)
from pipelines.runtime.command_line import command
from pipelines.training.config import TrainJobConfig

BENCHMARKS: dict[str, Benchmark] = {
    "PASCAL-5i": "pascal",
    "COCO-20i": "coco",
    "FSS-1000": "fss",
    "COCO-20i -> PASCAL VOC": "coco-to-pascal",
}
UNKNOWN = "unknown"
"""Backbone of a claim whose source names none."""
METRICS = {"mIoU": "mIoU", "FB-IoU": "FB-IoU"}
_PROTOCOLS: dict[str, ProtocolName] = {
    "hsnet": "hsnet",
    "vat": "hsnet",
    "asnet": "ifsl",
    "masksplit": "masksplit",
    "density": "hsnet",
}
_RELEASED = {"masksplit": "resnet101_deepstem"}
"""Backbone of a learner's released configuration, for claims whose source names none."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Trainings and evaluations of a claim, and missing inputs."""

    absent: tuple[Absent, ...] = ()
    """Missing inputs; if there are any, the claim cannot be verified."""
    trainings: tuple[TrainJobConfig, ...] = ()
    """Trainings of the folds without a model, which run first."""
    evaluations: tuple[EvaluateJobConfig, ...] = ()
    """One evaluation per fold."""
    metric: str = "mIoU"
    """Metric of the evaluation that the claim is about."""
    notes: tuple[str, ...] = ()
    """Assumptions of the comparison that the source of the claim does not confirm."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Descriptions of the missing inputs."""
        return tuple(map(str, self.absent))

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands of the trainings and evaluations."""
        trainings = tuple(training_command(config) for config in self.trainings)
        return trainings + tuple(
            command("evaluate", evaluation, default=EvaluateJobConfig()) for evaluation in self.evaluations
        )


def find_needs(claim: Claim, config: ReproduceConfig) -> Needs:
    """Return the needs of a claim with the collections and models of a configuration."""
    benchmark, learner = BENCHMARKS.get(claim.dataset), claim.model.lower()
    if benchmark is None or learner not in _PROTOCOLS or claim.metric not in METRICS:
        able = f"{', '.join(METRICS)} of {', '.join(_PROTOCOLS)} on {', '.join(BENCHMARKS)}"
        what = f"no way to verify {claim.metric} of {claim.model} on {claim.dataset}"
        return Needs(absent=(Absent(what=what, how=f"; there is one for {able}"),))
    backbone = backbone_name(claim)
    if backbone == UNKNOWN:
        what = "the backbone, which the source does not name; name it in a file for --claims"
        return Needs(absent=(Absent(what=what),))
    data = "pascal" if benchmark == "coco-to-pascal" else benchmark
    collection = getattr(config.collections, data)
    missing = [*absent_collection(data, collection)]
    folds: list[int | None] = [None] if benchmark == "fss" else list(range(FOLDS))
    if learner in TRAINING_FREE:
        untrained_evaluations = tuple(
            _evaluation(claim, config, benchmark, fold, str(collection), None, learner, backbone) for fold in folds
        )
        return Needs(absent=tuple(missing), evaluations=untrained_evaluations, metric=METRICS[claim.metric])
    trained = "coco" if benchmark == "coco-to-pascal" else benchmark
    name = f"{learner}-{claim.masking}-{backbone.replace(':', '-')}-{trained}"
    # MaskSplit learns from no class, so that one model serves all folds.
    shared: list[int | None] = [None] if learner == "masksplit" else []
    models = {fold: _find_checkpoint(config.models, name, [fold, *shared]) for fold in folds}
    untrained = [fold for fold, uri in models.items() if uri is None]
    trainings = []
    if untrained and not config.train:
        stems = [*map(fold_name, untrained)]
        missing.append(
            absent_checkpoints(config.models, name, stems, learner=learner, masking=claim.masking, shared=bool(shared))
        )
    elif untrained and (absent_inputs := missing_for_training(config, learner, backbone, trained)):
        missing += [each for each in absent_inputs if each not in missing]
    else:
        for fold in shared if shared and untrained else untrained:
            training_name = name if fold is None else f"{name}-{fold_name(fold)}"
            trainings.append(training(config, learner, claim.masking, backbone, trained, fold, name=training_name))
            models |= dict.fromkeys(untrained if fold is None else [fold], trained_model(trainings[-1]))
    evaluations = tuple(
        _evaluation(claim, config, benchmark, fold, str(collection), uri, learner, backbone)
        for fold, uri in models.items()
        if uri is not None
    )
    # MaskSplit reports the mean IoU of single episodes (see fss.evaluation.metrics).
    metric = "per-episode mIoU" if learner == "masksplit" else METRICS[claim.metric]
    return Needs(
        absent=tuple(missing),
        trainings=tuple(trainings),
        evaluations=evaluations,
        metric=metric,
        notes=_notes(claim, config, backbone),
    )


def backbone_name(claim: Claim) -> str:
    """Return the name in fss of a claim's backbone, such as resnet50 for ResNet-50; MaskSplit's have a deep stem.

    Where the source names none, it is that of the learner's released configuration, or :data:`UNKNOWN`.
    """
    if claim.backbone.startswith("timm:"):
        return claim.backbone
    learner, name = claim.model.lower(), claim.backbone.replace("-", "").lower()
    if name == UNKNOWN:
        return _RELEASED.get(learner, UNKNOWN)
    return f"{name}_deepstem" if learner == "masksplit" and name in ("resnet50", "resnet101") else name


def _notes(claim: Claim, config: ReproduceConfig, backbone: str) -> tuple[str, ...]:
    notes = []
    if claim.backbone.lower() == UNKNOWN:
        notes.append(f"the source names no backbone; inferred: {backbone} of the released configuration")
    authors = _PROTOCOLS[claim.model.lower()]
    if config.protocol not in (None, authors):
        notes.append(f"protocol {config.protocol}, not {authors} of the authors")
    if config.episodes is not None:
        notes.append(f"{config.episodes} episodes a fold in place of the protocol's number")
    if claim.model.lower() == "masksplit" and config.protocol in (None, "masksplit"):
        notes.append("the authors' episodes were drawn without a seed, so these are others of the same protocol")
    return tuple(notes)


def fold_name(fold: int | None) -> str:
    """Return the name of a fold's folder, such as fold0; model without folds."""
    return "model" if fold is None else f"fold{fold}"


def _evaluation(
    claim: Claim,
    config: ReproduceConfig,
    benchmark: Benchmark,
    fold: int | None,
    collection: str,
    uri: str | None,
    learner: str,
    backbone: str,
) -> EvaluateJobConfig:
    published: dict[str, Any] = {}
    if uri is None:
        published = {"learner": learner, "backbone": backbone, "backbone_weights": backbone_weights(config, backbone)}
    elif uri.endswith(SUFFIXES):
        published = {"learner": learner, "masking": claim.masking, "backbone": backbone}
        published["backbone_weights"] = backbone_weights(config, backbone)
    return EvaluateJobConfig(
        model=uri,
        collection=collection,
        output=storage.join(storage.absolute_uri(config.output), "evaluations", claim.key, fold_name(fold)),
        benchmark=benchmark,
        fold=fold,
        protocol=config.protocol or _PROTOCOLS[learner],
        split_folder=config.split_folder,
        mask_set=config.mask_set,
        episodes=config.episodes,
        shots=(claim.shots,),
        fusion=_fusion(learner),
        refine="no",  # the published results are of the networks' own grids
        baselines=False,
        visualizations=config.visualizations,
        device=config.device,
        precision=config.precision,
        workers=config.workers,
        tracking=config.tracking,
        **published,
    )


def _fusion(learner: str) -> Fusion:
    if learner in TRAINING_FREE:
        return "joint"
    return "mean_probability" if learner == "masksplit" else "vote_published"


def _find_checkpoint(folder: str | None, name: str, folds: Sequence[int | None]) -> str | None:
    """Return the URI of the folder or file of the first of ``folds`` that has a model, or None."""
    if folder is None:
        return None
    filesystem, path = storage.resolve(storage.join(folder, name))
    names = set(storage.list_names(filesystem, path))
    for stem in map(fold_name, folds):
        for candidate in (stem, *(stem + suffix for suffix in SUFFIXES)):
            if candidate in names:
                return storage.join(storage.absolute_uri(folder), name, candidate)
    return None
