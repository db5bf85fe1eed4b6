"""Trainings of missing models: as published, on the benchmark of the claim."""

from dataclasses import replace

from fss.collection.collection import Collection
from fss.core import storage
from pipelines.reproduction.config import ReproduceConfig
from pipelines.reproduction.expected import SUFFIXES, Absent, absent_collection, absent_weights
from pipelines.runtime.command_line import command
from pipelines.runtime.result import read_result
from pipelines.training.config import TrainJobConfig
from pipelines.training.presets import PRESETS
from pipelines.training.worker import MODEL


def missing_for_training(config: ReproduceConfig, learner: str, backbone: str, data: str) -> tuple[Absent, ...]:
    """Describe the missing inputs of a training of ``learner`` on the benchmark ``data`` (pascal, coco or fss)."""
    if f"{learner}-{data}" not in PRESETS:
        return (Absent(what=f"published settings to train {learner} on {data}; give its checkpoints"),)
    images = _train_collection(config, data)
    missing = [*absent_collection(data, images, training=True)]
    missing += [each for each in absent_collection(data, getattr(config.collections, data)) if each not in missing]
    if learner == "masksplit" and not missing:
        missing += _absent_mask_set(str(images), config.training.saliency_mask_set)
    if config.weights_folder is not None and backbone_weights(config, backbone) is None:
        missing.append(absent_weights(config.weights_folder, _stem(backbone)))
    elif config.weights_folder is None and backbone.endswith("_deepstem"):
        missing.append(absent_weights(None, _stem(backbone), note="; no library has them"))
    return tuple(missing)


def _absent_mask_set(collection: str, name: str) -> tuple[Absent, ...]:
    if name in Collection.open(collection).mask_set_names():
        return ()
    what = f"the mask set {name} of {collection}"
    return (
        Absent(what=what, how="; make it with pipelines.pseudomask or fss masks import", origin=f"mask set {name}"),
    )


def training(
    config: ReproduceConfig, learner: str, masking: str, backbone: str, data: str, fold: int | None, *, name: str
) -> TrainJobConfig:
    """Return the configuration of the training of one fold's model.

    Args:
        config: collections, weights, and changes to the published training.
        learner: hsnet, asnet, vat or masksplit.
        masking: masking strategy.
        backbone: name of the backbone in fss.
        data: benchmark: pascal, coco or fss.
        fold: fold of the benchmark; None: it has none.
        name: name of the training.
    """
    source, overrides = _train_collection(config, data), config.training
    assert source is not None, "missing_for_training has checked the collections"
    start: TrainJobConfig = PRESETS[f"{learner}-{data}"]()
    batch = overrides.batch_size or start.stream.batch_size
    steps = overrides.steps or start.optimizer.steps * start.stream.batch_size // batch
    val_collection, val_episodes = getattr(config.collections, data), overrides.val_episodes
    classes, tasks = start.classes, start.held_out_tasks
    if start.episodes == "split":
        tasks = val_episodes or tasks
    else:
        classes = replace(
            classes,
            fold=fold,
            split_folder=config.split_folder,
            val_collection=None if val_collection == source else val_collection,
            val_episodes=val_episodes or classes.val_episodes,
        )
    return replace(
        start,
        collection=source,
        output=_output(config),
        name=name,
        mask_set=config.training.saliency_mask_set if learner == "masksplit" else config.mask_set,
        segmenter=replace(
            start.segmenter,
            masking=masking,  # type: ignore[arg-type]  # find_needs has checked the claim
            backbone=backbone,
            backbone_weights=backbone_weights(config, backbone) or "pretrained",
            image_size=overrides.image_size or start.segmenter.image_size,
        ),
        stream=replace(start.stream, batch_size=batch),
        classes=classes,
        held_out_tasks=tasks,
        optimizer=replace(
            start.optimizer,
            steps=steps,
            precision=overrides.precision,
            compile=overrides.compile,
            accumulate=overrides.accumulate,
        ),
        checkpoint_every=max(1, min(steps, start.checkpoint_every * start.stream.batch_size // batch)),
        scale=overrides.scale,
        tracking=config.tracking,
        log_model=False,
    )


def training_command(config: TrainJobConfig) -> str:
    """Return the command line of a training."""
    preset = preset_name(config)
    return command("train", config, default=PRESETS[preset](), preset=preset)


def preset_name(config: TrainJobConfig) -> str:
    """Return the preset that a training is based on."""
    return f"{config.segmenter.learner}-{config.segmenter.benchmark}"


def describe(config: TrainJobConfig) -> str:
    """Compare the number of episodes of a training with the published number, in words."""
    published: TrainJobConfig = PRESETS[preset_name(config)]()
    episodes = (
        config.optimizer.steps * config.stream.batch_size,
        published.optimizer.steps * published.stream.batch_size,
    )
    return f"trained here with {episodes[0]:,} episodes, published at most {episodes[1]:,}"


def trained_model(config: TrainJobConfig) -> str:
    """Return the URI of the model of a training."""
    return storage.join(config.output, str(config.name), MODEL)


def is_trained(config: TrainJobConfig) -> bool:
    """Return whether a training of this name is finished."""
    return read_result(storage.join(config.output, str(config.name))) is not None


def backbone_weights(config: ReproduceConfig, backbone: str) -> str | None:
    """Return the file with the weights of a backbone in ``weights_folder``, or None."""
    if config.weights_folder is None:
        return None
    filesystem, path = storage.resolve(config.weights_folder)
    names = {_stem(backbone) + suffix for suffix in SUFFIXES} & set(storage.list_names(filesystem, path))
    return storage.join(config.weights_folder, min(names)) if names else None


def _stem(backbone: str) -> str:
    return backbone.replace(":", "-")


def _train_collection(config: ReproduceConfig, data: str) -> str | None:
    uri: str | None = getattr(config.training.collections, data)
    return config.collections.fss if uri is None and data == "fss" else uri


def _output(config: ReproduceConfig) -> str:
    return storage.join(storage.absolute_uri(config.output), "trainings")
