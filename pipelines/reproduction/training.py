"""The trainings of models that a claim needs and that are not at hand: as published, on the claim's benchmark."""

import math
from dataclasses import replace

from fss.collection.collection import collection_exists
from fss.core import storage
from pipelines.reproduction.config import ReproduceConfig
from pipelines.runtime.command_line import command
from pipelines.runtime.result import read_result
from pipelines.training.config import TrainJobConfig
from pipelines.training.presets import EPOCH, LANES, PRESETS
from pipelines.training.worker import MODEL


def missing_for_training(config: ReproduceConfig, learner: str, backbone: str, data: str) -> tuple[str, ...]:
    """Return what is not there to train a learner on a backbone and a benchmark's data (pascal, coco or fss)."""
    if f"{learner}-{data}" not in PRESETS:
        return (f"published settings to train {learner} on {data}; give its checkpoints",)
    images = "" if data == "fss" else "'s training images"
    wanted = {f"a collection of {data}{images}": _train_collection(config, data)}
    wanted.setdefault(f"a collection of {data}", getattr(config.collections, data))
    missing = [words for what, uri in wanted.items() for words in absent(what, uri)]
    if config.weights_folder is not None and backbone_weights(config, backbone) is None:
        missing.append(f"backbone weights {_stem(backbone)}.pth in {config.weights_folder}")
    return tuple(missing)


def absent(what: str, collection: str | None) -> tuple[str, ...]:
    """Return what is not there of a collection, in words."""
    if collection is None:
        return (what,)
    return () if collection_exists(collection) else (f"the collection {collection}",)


def training(
    config: ReproduceConfig, learner: str, masking: str, backbone: str, data: str, fold: int | None, *, name: str
) -> TrainJobConfig:
    """Return the training of one fold's model.

    Args:
        config: where things are, and how the training differs from the published one.
        learner: hsnet, asnet or vat.
        masking: the masking strategy.
        backbone: as fss calls it.
        data: pascal, coco or fss.
        fold: of the benchmark.
        name: of the training; its result is kept under it.
    """
    source, own = _train_collection(config, data), config.training
    assert source is not None, "see missing_for_training"
    start: TrainJobConfig = PRESETS[f"{learner}-{data}"]()
    batch = own.batch_size or start.stream.batch_size
    steps = own.steps or start.optimizer.steps * start.stream.batch_size // batch
    validated = getattr(config.collections, data)
    return replace(
        start,
        collection=source,
        output=_output(config),
        name=name,
        mask_set=config.mask_set,
        segmenter=replace(
            start.segmenter,
            masking=masking,  # type: ignore[arg-type]  # a claim's words are checked where its needs are found
            backbone=backbone,
            backbone_weights=backbone_weights(config, backbone) or "pretrained",
            image_size=own.image_size or start.segmenter.image_size,
        ),
        stream=replace(start.stream, batch_size=batch, lanes=math.gcd(batch, LANES)),
        classes=replace(
            start.classes,
            fold=fold,
            split_folder=config.split_folder,
            val_collection=None if validated == source else validated,
            val_episodes=own.val_episodes or start.classes.val_episodes,
        ),
        optimizer=replace(start.optimizer, steps=steps),
        checkpoint_every=max(1, min(steps, EPOCH[data] // batch)),
        scale=own.scale,
        tracking=config.tracking,
        log_model=False,
    )


def training_command(config: TrainJobConfig) -> str:
    """Return the command line of a training."""
    preset = preset_name(config)
    return command("train", config, default=PRESETS[preset](), preset=preset)


def preset_name(config: TrainJobConfig) -> str:
    """Return the name of the published settings that a training started from."""
    return f"{config.segmenter.learner}-{config.segmenter.benchmark}"


def describe(config: TrainJobConfig) -> str:
    """Say how much of the published training this one is."""
    published: TrainJobConfig = PRESETS[preset_name(config)]()
    share = config.optimizer.steps * config.stream.batch_size, published.optimizer.steps * published.stream.batch_size
    return f"trained here with {share[0]:,} episodes, published at most {share[1]:,}"


def trained_model(config: TrainJobConfig) -> str:
    """Return where a training keeps its model."""
    return storage.join(config.output, str(config.name), MODEL)


def is_trained(config: TrainJobConfig) -> bool:
    """Tell whether a training of this name is finished."""
    return read_result(storage.join(config.output, str(config.name))) is not None


def backbone_weights(config: ReproduceConfig, backbone: str) -> str | None:
    """Return the file of a backbone's weights in the folder of weights, or None."""
    if config.weights_folder is None:
        return None
    filesystem, path = storage.resolve(config.weights_folder)
    names = {_stem(backbone) + suffix for suffix in SUFFIXES} & set(storage.list_names(filesystem, path))
    return storage.join(config.weights_folder, min(names)) if names else None


SUFFIXES = (".pt", ".pth", ".safetensors")
"""Of files that hold weights."""


def _stem(backbone: str) -> str:
    return backbone.replace(":", "-")


def _train_collection(config: ReproduceConfig, data: str) -> str | None:
    given: str | None = getattr(config.training.collections, data)
    return config.collections.fss if given is None and data == "fss" else given


def _output(config: ReproduceConfig) -> str:
    return storage.join(storage.absolute_uri(config.output), "trainings")
