"""The data of a training and of its validation, opened once, for both kinds of episodes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, cast

import ray

from fss.collection import Collection, ImageReader, MaskSet
from fss.episodes.episode_plan import EpisodePlan
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from fss.training.few_shot.class_selection import ClassSelection, select_classes, validation_plan
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.mask_split_stream import HELD_OUT_SPLIT, MaskSplitStream
from fss.training.few_shot.validation import EpisodeValidator, PseudoTaskValidator, Validator
from pipelines.runtime.ray_session import is_local
from pipelines.training.config import TrainJobConfig
from pipelines.training.ray_stream import RayMaskSplitStream

READ_GROUPS = 64
"""Encoded row groups that a reader caches: a few hundred megabytes at most."""
Stream = MaskSplitStream | ClassStream


@dataclass(frozen=True)
class ClassData:
    """Data of class episodes besides the masks."""

    selection: ClassSelection
    """Training and validation classes, with their pictures."""
    val_masks: MaskSet
    """Mask set to validate on."""
    val_plan: EpisodePlan
    """Validation episodes."""
    left_out: dict[str, int]
    """Number of pictures of each class that was left out because it has too few, by the name of the class."""


@dataclass(frozen=True)
class TrainingData:
    """The data of a training."""

    config: TrainJobConfig
    """The resolved configuration."""
    masks: MaskSet
    """Mask set to train on."""
    accepted: frozenset[str] | None
    """Image ids of the accepted masks. None: all."""
    classes: ClassData | None
    """Data of class episodes. None: split episodes."""

    @classmethod
    def open(cls, config: TrainJobConfig) -> Self:
        """Open the collection, its masks and, for class episodes, the classes and the validation plan.

        Raises:
            ValueError: a collection, mask set or acceptance is missing, or the classes do not fit the settings.
        """
        masks = Collection.open(config.collection).mask_set(config.mask_set)
        accepted = masks.read_acceptance(config.acceptance).accepted if config.acceptance else None
        if config.episodes == "split":
            return cls(config, masks, accepted, None)
        selection = select_classes(config.classes, masks, accepted=accepted, held_out=config.stream.held_out)
        val_collection = Collection.open(config.classes.val_collection or config.collection)
        val_masks = val_collection.mask_set(config.classes.val_mask_set or config.mask_set)
        plan, val_left_out = validation_plan(config.classes, val_masks, selection.val)
        left_out = _named(selection.left_out, masks) | _named(val_left_out, val_masks)
        return cls(config, masks, accepted, ClassData(selection, val_masks, plan, left_out))

    def stream(self, *, rank: int = 0, world: int = 1) -> Stream:
        """Open the stream of episodes of one worker.

        Raises:
            ValueError: the data do not fit the settings, for example with fewer usable pictures than a step needs.
        """
        if self.classes is None:
            return self._split_stream(self.config, self.accepted, rank, world)
        config, selection = self.config, self.classes.selection
        return ClassStream(
            self._reader(self.masks),
            selection.index,
            classes=selection.train,
            episodes=config.classes.episodes or selection.pairs,
            shots=config.classes.shots,
            image_size=config.segmenter.image_size,
            stream=config.stream,
            augment=config.augment,
            rank=rank,
            world=world,
            pin_memory=config.scale.device == "cuda",
        )

    def validator(self, stream: Stream) -> Validator:
        """Open the validator of the checkpoints, which rank 0 needs."""
        config = self.config
        if self.classes is None:
            if config.held_out_acceptance:
                accepted = self.masks.read_acceptance(config.held_out_acceptance).accepted
                stream = self._split_stream(replace(config, split=HELD_OUT_SPLIT), accepted, 0, 1)
            return PseudoTaskValidator(cast(MaskSplitStream, stream), config.held_out_tasks)
        reader = self._reader(self.classes.val_masks)
        return EpisodeValidator(self.classes.val_plan, reader, image_size=config.segmenter.image_size)

    def hashes(self) -> dict[str, str]:
        """Return the hashes of the training data and, for class episodes, of the validation data."""
        config, masks = self.config, self.masks
        data = {"collection": masks.collection.fingerprint(), "mask_set": masks.config_hash}
        if config.acceptance:
            data["acceptance"] = masks.read_acceptance(config.acceptance).hash
        if config.held_out_acceptance and self.classes is None:
            data["held_out_acceptance"] = masks.read_acceptance(config.held_out_acceptance).hash
        if self.classes is not None:
            data["train_classes"] = self.classes.selection.hash
            data["val_plan"] = self.classes.val_plan.hash
            data["val_mask_set"] = self.classes.val_masks.config_hash
        return data

    def counts(self) -> dict[str, int]:
        """Return the numbers of usable and unusable images.

        Raises:
            ValueError: the data do not fit the settings.
        """
        return self.stream().counts

    def left_out(self) -> dict[str, int]:
        """Return the numbers of pictures of the classes that were left out because they have too few."""
        return {} if self.classes is None else self.classes.left_out

    def log(self, run: Run, hashes: dict[str, str]) -> None:
        """Log the data as datasets of a run, with the ``hashes`` of :meth:`hashes`."""
        details = {"acceptance": self.config.acceptance, "acceptance_hash": hashes.get("acceptance")}
        log_dataset(run, self.masks, context="training", fingerprint=hashes["collection"], details=details)
        if self.classes is not None:
            details = {"plan": hashes["val_plan"], "train_classes": hashes["train_classes"]}
            log_dataset(run, self.classes.val_masks, context="validation", details=details)

    def _split_stream(
        self, config: TrainJobConfig, accepted: frozenset[str] | None, rank: int, world: int
    ) -> MaskSplitStream:
        on_ray = config.loader == "ray" or (config.loader == "auto" and ray.is_initialized() and not is_local())
        stream = (RayMaskSplitStream if on_ray else MaskSplitStream)(
            self.masks.collection,
            self.masks,
            image_size=config.segmenter.image_size,
            stream=config.stream,
            split=config.split,
            augment=config.augment,
            accepted=accepted,
            rank=rank,
            world=world,
            pin_memory=config.scale.device == "cuda",
        )
        if isinstance(stream, RayMaskSplitStream):
            stream.leave_cpus(config.scale.cpus_per_worker * world)
        return stream

    @staticmethod
    def _reader(masks: MaskSet) -> ImageReader:
        return ImageReader(masks.collection, masks, cached_groups=READ_GROUPS)


def _named(classes: Mapping[int, int], masks: MaskSet) -> dict[str, int]:
    return {masks.collection.classes.get(c, str(c)): count for c, count in classes.items()}
