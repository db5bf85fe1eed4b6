"""What a training learns from and what its checkpoints are judged by, for both kinds of episodes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import ray

from fss.collection import Collection, ImageReader, MaskSet
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from fss.training.few_shot.class_selection import ClassSelection, select_classes, validation_plan
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.mask_split_stream import HELD_OUT_SPLIT, MaskSplitStream
from fss.training.few_shot.validation import EpisodeValidator, PseudoTaskValidator, Validator
from pipelines.runtime.ray_session import is_local
from pipelines.training.config import TrainJobConfig
from pipelines.training.ray_stream import RayMaskSplitStream

READ_PARTS = 32
"""Parts that random access keeps in memory: encoded, so a few hundred megabytes at most."""
Stream = MaskSplitStream | ClassStream


def open_stream(config: TrainJobConfig, *, rank: int = 0, world: int = 1) -> Stream:
    """Open the stream of episodes of one worker.

    Raises:
        ValueError: no such data, or data that do not fit the settings.
    """
    masks = _masks(config)
    if config.episodes == "classes":
        choice = _choice(config, masks)
        return ClassStream(
            ImageReader(masks.collection, masks, cached_parts=READ_PARTS),
            choice.index,
            classes=choice.train,
            episodes=config.classes.episodes or choice.pairs,
            shots=config.classes.shots,
            image_size=config.segmenter.image_size,
            stream=config.stream,
            augment=config.augment,
            rank=rank,
            world=world,
        )
    kind = RayMaskSplitStream if _by_ray(config) else MaskSplitStream
    stream = kind(
        masks.collection,
        masks,
        image_size=config.segmenter.image_size,
        stream=config.stream,
        split=config.split,
        augment=config.augment,
        accepted=_accepted(config, masks),
        rank=rank,
        world=world,
    )
    if isinstance(stream, RayMaskSplitStream):
        stream.leave_cpus(config.scale.cpus * world)
    return stream


def _by_ray(config: TrainJobConfig) -> bool:
    return config.loader == "ray" or (config.loader == "auto" and ray.is_initialized() and not is_local())


def open_validator(config: TrainJobConfig, stream: Stream) -> Validator:
    """Open what judges the checkpoints; one worker needs it."""
    if isinstance(stream, MaskSplitStream):
        if config.held_out_acceptance:
            judged = replace(config, acceptance=config.held_out_acceptance, split=HELD_OUT_SPLIT)
            stream = cast(MaskSplitStream, open_stream(judged))
        return PseudoTaskValidator(stream, config.held_out_tasks)
    masks = _val_masks(config)
    plan = validation_plan(config.classes, masks, _choice(config, _masks(config)).val)
    reader = ImageReader(masks.collection, masks, cached_parts=READ_PARTS)
    return EpisodeValidator(plan, reader, image_size=config.segmenter.image_size)


def data_hashes(config: TrainJobConfig) -> dict[str, str]:
    """Return hashes of everything that is trained on and, for class episodes, of what it is judged by."""
    masks = _masks(config)
    data = {"collection": masks.collection.fingerprint(), "mask_set": masks.config_hash}
    if config.acceptance:
        data["acceptance"] = masks.read_acceptance(config.acceptance).hash
    if config.held_out_acceptance and config.episodes == "split":
        data["held_out_acceptance"] = masks.read_acceptance(config.held_out_acceptance).hash
    if config.episodes == "classes":
        choice, val_masks = _choice(config, masks), _val_masks(config)
        data["train_classes"] = choice.hash
        data["val_plan"] = validation_plan(config.classes, val_masks, choice.val).hash
        data["val_mask_set"] = val_masks.config_hash
    return data


def log_sources(run: Run, config: TrainJobConfig, data: Mapping[str, str]) -> None:
    """Log what a training reads as datasets of its run; ``data`` are its hashes."""
    facts = {"acceptance": config.acceptance, "acceptance_hash": data.get("acceptance")}
    log_dataset(run, _masks(config), context="training", fingerprint=data["collection"], details=facts)
    if config.episodes == "classes":
        facts = {"plan": data["val_plan"], "train_classes": data["train_classes"]}
        log_dataset(run, _val_masks(config), context="validation", details=facts)


def counts(config: TrainJobConfig) -> dict[str, int]:
    """Return what the stream finds to train on."""
    return open_stream(config).counts


def _masks(config: TrainJobConfig) -> MaskSet:
    return Collection.open(config.collection).mask_set(config.mask_set)


def _val_masks(config: TrainJobConfig) -> MaskSet:
    place = config.classes.val_collection or config.collection
    return Collection.open(place).mask_set(config.classes.val_mask_set or config.mask_set)


def _accepted(config: TrainJobConfig, masks: MaskSet) -> frozenset[str] | None:
    return masks.read_acceptance(config.acceptance).accepted if config.acceptance else None


def _choice(config: TrainJobConfig, masks: MaskSet) -> ClassSelection:
    accepted = _accepted(config, masks)
    return select_classes(config.classes, masks, accepted=accepted, held_out=config.stream.held_out)
