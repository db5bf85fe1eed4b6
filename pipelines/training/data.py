"""What a training learns from and what validates its checkpoints, opened once, for both kinds of episodes."""

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

READ_PARTS = 32
"""Encoded parts that random access keeps in memory: a few hundred megabytes at most."""
Stream = MaskSplitStream | ClassStream


@dataclass(frozen=True)
class ClassData:
    """What class episodes need besides the masks."""

    selection: ClassSelection
    """Classes to train and to validate on, and their pictures."""
    val_masks: MaskSet
    """Mask set to validate on."""
    val_plan: EpisodePlan
    """Episodes to validate on."""


@dataclass(frozen=True)
class TrainingData:
    """The data of a training."""

    config: TrainJobConfig
    """The resolved configuration."""
    masks: MaskSet
    """Mask set to train on."""
    accepted: frozenset[str] | None
    """Image ids of the accepted masks; None: all."""
    classes: ClassData | None
    """For class episodes."""

    @classmethod
    def open(cls, config: TrainJobConfig) -> Self:
        """Open the collection, its masks and, for class episodes, the classes and the validation plan.

        Raises:
            ValueError: there are no such data, or they do not fit the settings.
        """
        masks = Collection.open(config.collection).mask_set(config.mask_set)
        accepted = masks.read_acceptance(config.acceptance).accepted if config.acceptance else None
        if config.episodes == "split":
            return cls(config, masks, accepted, None)
        selection = select_classes(config.classes, masks, accepted=accepted, held_out=config.stream.held_out)
        val_collection = Collection.open(config.classes.val_collection or config.collection)
        val_masks = val_collection.mask_set(config.classes.val_mask_set or config.mask_set)
        plan = validation_plan(config.classes, val_masks, selection.val)
        return cls(config, masks, accepted, ClassData(selection, val_masks, plan))

    def stream(self, *, rank: int = 0, world: int = 1) -> Stream:
        """Open the stream of episodes of one worker.

        Raises:
            ValueError: data that do not fit the settings, such as fewer usable pictures than a step needs.
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
        )

    def validator(self, stream: Stream) -> Validator:
        """Open what validates the checkpoints; one worker needs it."""
        config = self.config
        if self.classes is None:
            if config.held_out_acceptance:
                accepted = self.masks.read_acceptance(config.held_out_acceptance).accepted
                stream = self._split_stream(replace(config, split=HELD_OUT_SPLIT), accepted, 0, 1)
            return PseudoTaskValidator(cast(MaskSplitStream, stream), config.held_out_tasks)
        reader = self._reader(self.classes.val_masks)
        return EpisodeValidator(self.classes.val_plan, reader, image_size=config.segmenter.image_size)

    def hashes(self) -> dict[str, str]:
        """Return hashes of everything that is trained on and, for class episodes, of what validates."""
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
        """Return what there is to train on.

        Raises:
            ValueError: data that do not fit the settings.
        """
        return self.stream().counts

    def log(self, run: Run, hashes: dict[str, str]) -> None:
        """Log the data as datasets of a run; ``hashes`` are those of :meth:`hashes`."""
        facts = {"acceptance": self.config.acceptance, "acceptance_hash": hashes.get("acceptance")}
        log_dataset(run, self.masks, context="training", fingerprint=hashes["collection"], details=facts)
        if self.classes is not None:
            facts = {"plan": hashes["val_plan"], "train_classes": hashes["train_classes"]}
            log_dataset(run, self.classes.val_masks, context="validation", details=facts)

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
        )
        if isinstance(stream, RayMaskSplitStream):
            stream.leave_cpus(config.scale.cpus_per_worker * world)
        return stream

    @staticmethod
    def _reader(masks: MaskSet) -> ImageReader:
        return ImageReader(masks.collection, masks, cached_parts=READ_PARTS)
