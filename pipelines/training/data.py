"""The data of a training and of its validation, read once by the driver, for both kinds of episodes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import ray

from fss.collection import Collection, ImageIndex, ImageReader, MaskSet
from fss.collection.class_names import check_same_names
from fss.core.config import config_hash
from fss.episodes.episode_plan import EpisodePlan
from fss.models.config import Precision
from fss.tracking.delivery import DatasetId
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from fss.training.canvas_cache import default_gigabytes
from fss.training.few_shot.class_selection import validation_plan
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.mixed_stream import MixedStream
from fss.training.few_shot.validation import EpisodeValidator, PseudoTaskValidator, Validator
from pipelines.runtime.labels import Labels
from pipelines.runtime.ray_session import is_local
from pipelines.training.config import TrainJobConfig
from pipelines.training.ray_stream import RayDecoding, RayMaskSplitStream, RayMixedStream
from pipelines.training.sources import TrainingSource, open_sources

READ_GROUPS = 64
"""Encoded row groups that a reader caches: a few hundred megabytes at most."""
Stream = MaskSplitStream | ClassStream | MixedStream


@dataclass(frozen=True)
class ValidationData:
    """Validation of class episodes."""

    masks: MaskSet
    """Mask set to validate on."""
    plan: EpisodePlan
    """Validation episodes."""
    images: ImageIndex
    """Positions of the pictures."""
    left_out: dict[str, int]
    """Number of pictures of each class that was left out because it has too few, by the name of the class."""


@dataclass(frozen=True)
class TrainingData:
    """The data of a training; picklable, so that workers need not read the collections again."""

    config: TrainJobConfig
    """The resolved configuration."""
    sources: tuple[TrainingSource, ...]
    """The collection, and the further collections."""
    validation: ValidationData | None
    """Validation of class episodes. None: split episodes."""

    @classmethod
    def open(cls, config: TrainJobConfig) -> Self:
        """Open the collections, their masks and, for class episodes, the classes and the validation plan.

        Raises:
            ValueError: a collection, mask set or acceptance is missing, or the classes do not fit the settings.
        """
        sources = open_sources(config)
        if (selection := sources[0].selection) is None:
            return cls(config, sources, None)
        classes, collection, images = config.classes, sources[0].masks.collection, sources[0].images
        if classes.val_collection:
            own, collection = collection, Collection.open(classes.val_collection)
            val = {class_id: own.classes[class_id] for class_id in selection.val if class_id in own.classes}
            check_same_names(val, collection.classes, where=own.uri, elsewhere=collection.uri)
        masks = collection.mask_set(classes.val_mask_set or config.mask_set)
        plan, left_out = validation_plan(classes, masks, selection.val)
        if images is None or classes.val_collection:
            images = ImageIndex.build(collection)
        return cls(config, sources, ValidationData(masks, plan, images, _named(left_out, masks)))

    @property
    def weights(self) -> list[float]:
        """Weight of each collection; they add up to 1."""
        weights = self.config.mix.weights or [float(source.usable) for source in self.sources]
        total = sum(weights) or 1.0  # collections without a usable picture are refused when they are streamed
        return [weight / total for weight in weights]

    def stream(self, *, rank: int = 0, world: int = 1) -> Stream:
        """Open the stream of episodes of one worker.

        Raises:
            ValueError: the data do not fit the settings, for example with fewer usable pictures than a step needs.
        """
        if self.validation is None:
            return self._split_stream(self.sources, rank, world)
        weighted = zip(self.sources, self.weights, strict=True)
        streams = [self._class_stream(source, weight, rank, world) for source, weight in weighted]
        if len(streams) == 1:
            return streams[0]
        return MixedStream(streams, self.weights, pin_memory=self._pin_memory)

    def validator(self, stream: Stream, precision: Precision | None = None) -> Validator:
        """Open the validator of the checkpoints, which the workers share; None: the precision of the training."""
        config, precision = self.config, precision or self.config.optimizer.precision
        if self.validation is None:
            if config.held_out_acceptance:
                # Threads, because every worker opens this stream, and its canvases are decoded only once.
                threads = replace(config, stream=replace(config.stream, decoders="threads"))
                sources = [source.for_validation() for source in self.sources]
                stream = replace(self, config=threads)._split_stream(sources, 0, 1)
            tasks = cast(MaskSplitStream | MixedStream, stream)
            return PseudoTaskValidator(tasks, config.held_out_tasks, precision=precision)
        return EpisodeValidator(
            self.validation.plan,
            _reader(self.validation.masks, self.validation.images),
            image_size=config.segmenter.image_size,
            stream=config.stream,
            precision=precision,
        )

    def hashes(self) -> dict[str, str]:
        """Return the hashes of the training data and, for class episodes, of the validation data.

        The names of a further collection end in its number, such as ``collection.2``.
        """
        data: dict[str, str] = {}
        for number, source in enumerate(self.sources, start=1):
            ending = f".{number}" if number > 1 else ""
            data |= {f"{name}{ending}": value for name, value in source.hashes(self.config).items()}
        if self.validation is not None:
            data["val_plan"] = self.validation.plan.hash
            data["val_mask_set"] = self.validation.masks.config_hash
        return data

    def contents(self) -> dict[str, str]:
        """Return the hashes of the files of pictures and masks, which :meth:`hashes` does not cover."""
        contents = {"contents": self.sources[0].masks.contents()}
        for number, source in enumerate(self.sources[1:], start=2):
            contents[f"contents.{number}"] = source.masks.contents()
        if self.validation is not None:
            contents["val_contents"] = self.validation.masks.contents()
        return contents

    def counts(self) -> dict[str, int]:
        """Return the numbers of usable and unusable images of all collections.

        Raises:
            ValueError: the data do not fit the settings, or no picture is held out to choose a checkpoint by.
        """
        counts = self.stream().counts
        held_out = [source.for_validation().rows for source in self.sources]
        if self.validation is None and not any(rows and rows.counts["held_out"] for rows in held_out):
            raise ValueError(
                "no picture can be held out to choose the checkpoint by, because it takes two usable ones; give more "
                "pictures, or another --held-out-acceptance"
            )
        return counts

    def shares(self) -> dict[str, str]:
        """Return the usable pictures and the weight of each collection; empty with a single collection."""
        if len(self.sources) == 1:
            return {}
        pairs = zip(self.sources, self.weights, strict=True)
        unit = "pictures" if self.validation is None else "pairs of picture and class"
        return {
            f"from {source.masks.collection.uri}": f"{source.usable:,} {unit}, weight {weight:.4g}"
            for source, weight in pairs
        }

    def left_out(self) -> dict[str, int]:
        """Return the numbers of pictures of the classes that were left out because they have too few."""
        left_out = {} if self.validation is None else dict(self.validation.left_out)
        for source in self.sources:
            left_out |= _named(source.selection.left_out, source.masks) if source.selection else {}
        return left_out

    def record(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Return what a model keeps of its data: whether all pictures are painted, their number, and a fingerprint.

        The fingerprint covers the files of pictures and masks and what is selected of them: all ``hashes`` of
        :meth:`hashes` and :meth:`contents`.
        """
        return {
            "fingerprint": config_hash(dict(hashes)),
            "painted": all(source.masks.collection.painted for source in self.sources),
            "images": sum(source.pictures for source in self.sources),
        }

    def labels(self, amount: str = "") -> Labels:
        """Return the labels of a run that trains on the data, by default with its number of steps."""
        network, steps = self.config.segmenter, self.config.optimizer.steps
        return Labels(
            data="+".join(source.masks.collection.name for source in self.sources),
            backbone=network.backbone,
            learner=network.learner,
            amount=amount or f"{steps} steps",
        )

    def log(self, run: Run, hashes: dict[str, str]) -> DatasetId:
        """Log the data as datasets of a run, with the ``hashes`` of :meth:`hashes` and :meth:`contents`.

        Returns:
            The dataset that validates; pseudo-tasks are those of the first collection.
        """
        logged = []
        for number, source in enumerate(self.sources, start=1):
            ending = f".{number}" if number > 1 else ""
            details = {"acceptance": source.acceptance, "acceptance_hash": hashes.get(f"acceptance{ending}")}
            details["contents"] = hashes[f"contents{ending}"]
            fingerprint = hashes[f"collection{ending}"]
            logged += [log_dataset(run, source.masks, context="training", fingerprint=fingerprint, details=details)]
        if self.validation is not None:
            details = {"plan": hashes["val_plan"], "train_classes": hashes["train_classes"]}
            details["contents"] = hashes["val_contents"]
            return log_dataset(run, self.validation.masks, context="validation", details=details)
        return logged[0]

    def _split_stream(self, sources: Sequence[TrainingSource], rank: int, world: int) -> MaskSplitStream | MixedStream:
        config, several = self.config, len(sources) > 1
        on_ray = config.loader == "ray" or (config.loader == "auto" and ray.is_initialized() and not is_local())
        kind = RayMaskSplitStream if on_ray and not several else MaskSplitStream
        streams = []
        for source, weight in zip(sources, self.weights, strict=True):
            with self._naming(source):
                streams.append(
                    kind(
                        source.masks.collection,
                        source.masks,
                        image_size=config.training_size,
                        stream=self._stream_config(weight),
                        split=config.split,
                        augment=config.augment,
                        rows=source.rows,
                        rank=rank,
                        world=world,
                        pin_memory=self._pin_memory,
                    )
                )
        stream: MaskSplitStream | MixedStream = streams[0]
        if several:
            mix = RayMixedStream if on_ray else MixedStream
            stream = mix(streams, self.weights, pin_memory=self._pin_memory)
        if isinstance(stream, RayDecoding):
            stream.leave_cpus(config.scale.cpus_per_worker * world, world)
        return stream

    def _class_stream(self, source: TrainingSource, weight: float, rank: int, world: int) -> ClassStream:
        config, selection = self.config, source.selection
        assert selection is not None and source.images is not None, "open has read them"
        with self._naming(source):
            return ClassStream(
                _reader(source.masks, source.images),
                selection.index,
                classes=selection.train,
                episodes=config.classes.episodes or selection.pairs,
                shots=config.classes.shots,
                draw=config.classes.draw,
                image_size=config.training_size,
                stream=self._stream_config(weight),
                augment=config.augment,
                rank=rank,
                world=world,
                pin_memory=self._pin_memory,
            )

    @property
    def _pin_memory(self) -> bool:
        return self.config.scale.device == "cuda"

    @contextmanager
    def _naming(self, source: TrainingSource) -> Iterator[None]:
        """Name the collection in the errors of a block, if there are several."""
        try:
            yield
        except ValueError as error:
            if len(self.sources) == 1:
                raise
            raise ValueError(f"{source.masks.collection.uri}: {error}") from error

    def _stream_config(self, weight: float) -> StreamConfig:
        """Return the settings of the stream of a collection, which gets its share of the cache by its weight."""
        stream = self.config.stream
        if len(self.sources) == 1:
            return stream
        gigabytes = default_gigabytes(stream.cache_folder) if stream.cache_gb is None else stream.cache_gb
        return replace(stream, cache_gb=gigabytes * weight)


def _reader(masks: MaskSet, images: ImageIndex) -> ImageReader:
    return ImageReader(masks.collection, masks, cached_groups=READ_GROUPS, index=images)


def _named(classes: Mapping[int, int], masks: MaskSet) -> dict[str, int]:
    return {masks.collection.classes.get(c, str(c)): count for c, count in classes.items()}
