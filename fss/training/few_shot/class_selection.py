"""Select the classes of a labelled collection for training and validation."""

import hashlib
import json
from collections.abc import Collection as Ids
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fss.collection import ClassIndex, Collection, MaskSet
from fss.core.rng import keyed_rng
from fss.episodes.benchmarks import choose_fold, ids_by_name
from fss.episodes.episode_plan import EpisodePlan, make_plan, split_small_classes
from fss.episodes.published_lists import read_training_entries
from fss.training.few_shot.config import ClassesConfig


@dataclass(frozen=True, kw_only=True)
class ClassSelection:
    """The classes of a training and the images that show them."""

    train: tuple[int, ...]
    """Class ids to train on."""
    val: tuple[int, ...]
    """Class ids to validate on."""
    index: ClassIndex = field(repr=False)
    """The images to train on, by training class."""
    left_out: Mapping[int, int] = field(default_factory=dict)
    """Number of images of each training class that was left out because it has too few."""

    @property
    def hash(self) -> str:
        """Return 16 hex digits over the training classes and their images."""
        digest = hashlib.sha256(b"[{")  # config_hash of the ids by class, without all of them in memory
        for number, name in enumerate(sorted(map(str, self.index))):
            ids = json.dumps(self.index[int(name)].image_ids.to_pylist(), separators=(",", ":"))
            digest.update(f'{"," if number else ""}"{name}":{ids}'.encode())
        digest.update(b"}]")
        return digest.hexdigest()[:16]

    @property
    def pairs(self) -> int:
        """Return the number of pairs of training image and class."""
        return sum(map(len, self.index.values()))


def select_classes(
    config: ClassesConfig, masks: MaskSet, *, accepted: Ids[str] | None = None, held_out: float = 0.0
) -> ClassSelection:
    """Select the classes and find their images.

    Args:
        config: the settings of the selection.
        masks: mask set to train on.
        accepted: ids of the images to train on; None selects all.
        held_out: share of the training classes to validate on if the settings name no validation classes.

    Raises:
        ValueError: a split, class or fold does not exist, classes of one collection serve both training and validation,
            or there are too few classes to hold any out.
    """
    collection = masks.collection
    splits = _splits(config, collection)
    train = _classes(config.train, splits, collection)
    if config.val:
        val = _classes(config.val, splits, collection)
        if config.val_collection is None and (overlap := sorted(set(train) & set(val))):
            names = ", ".join(collection.classes[c] for c in overlap[:5])
            raise ValueError(
                f"{len(overlap)} classes are both training and validation classes ({names}); remove them from one of "
                "the two"
            )
    else:
        train, val = _hold_out(train, held_out)
    index = ClassIndex.build(masks, min_pixels=config.min_pixels, accepted=accepted)
    listed = _listed(config, collection)
    keep = None if listed is None else lambda entry, class_id: (entry.image_id, class_id) in listed
    chosen = index.select(train, keep)
    left_out: dict[int, int] = {}
    if config.skip_small_classes:
        train, left_out = split_small_classes(chosen, train, config.shots)
        chosen = chosen.select(train)
    return ClassSelection(train=tuple(train), val=tuple(val), index=chosen, left_out=left_out)


def validation_plan(
    config: ClassesConfig, masks: MaskSet, classes: Sequence[int]
) -> tuple[EpisodePlan, dict[int, int]]:
    """Return the episodes that score checkpoints, which are the same for all trainings on these classes.

    Classes that are left out because they have too few images come second, with their numbers of images.

    Args:
        config: the numbers of episodes and shots.
        masks: mask set to validate on.
        classes: ids of the validation classes.

    Raises:
        ValueError: a class has too few images.
    """
    index = ClassIndex.build(masks, min_pixels=config.min_pixels)
    left_out: dict[int, int] = {}
    if config.skip_small_classes:
        classes, left_out = split_small_classes(index, classes, config.shots)
    plan = make_plan(
        index,
        classes=classes,
        episodes=config.val_episodes,
        shots=config.shots,
        seed=0,
        fingerprint=masks.collection.fingerprint(),
    )
    return plan, left_out


def _splits(config: ClassesConfig, collection: Collection) -> Mapping[str, Sequence[int]]:
    if config.benchmark is None:
        if config.fold is not None or config.split_folder is not None:
            raise ValueError("fold and split_folder belong to a benchmark; give --classes.benchmark too")
        return collection.class_splits
    fold = choose_fold(collection, config.benchmark, config.fold, order=config.order, split_folder=config.split_folder)
    return {name: ids for name, ids in (("train", fold.train), ("val", fold.val), ("test", fold.test)) if ids}


def _classes(words: Sequence[str], splits: Mapping[str, Sequence[int]], collection: Collection) -> list[int]:
    """Return the sorted class ids for names of splits and classes."""
    by_name = {name: class_id for class_id, name in collection.classes.items()}
    if tuple(words) == ClassesConfig().train and words[0] not in splits and words[0] in by_name:  # VOC and COCO have it
        raise ValueError(
            f"{collection.uri} has a class {words[0]!r} but no class split of that name; give --classes.benchmark, or "
            "name the classes to train on"
        )
    if unknown := [word for word in words if word not in splits and word not in by_name]:
        raise ValueError(
            f"{', '.join(unknown)}: no class split or class of {collection.uri}; its splits are "
            f"{', '.join(splits) or 'none'}, its classes {', '.join(list(by_name)[:10])}"
            f"{', ...' if len(by_name) > 10 else ''}"
        )
    if not words:
        raise ValueError("there is no class to train on; name class splits or classes")
    return sorted({c for word in words for c in (splits[word] if word in splits else [by_name[word]])})


def _hold_out(classes: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Split classes into training and validation classes, by a random order that depends only on the class ids."""
    order = sorted(classes, key=lambda c: float(keyed_rng(0, item=c, purpose="held_out.class").random()))
    count = max(1, round(share * len(order)))
    if count >= len(order) or share <= 0:
        raise ValueError(
            f"no class can be held out of {len(order)} for validation (held_out is {share}); name classes to validate "
            "on, train on more classes, or raise held_out"
        )
    return sorted(order[count:]), sorted(order[:count])


def _listed(config: ClassesConfig, collection: Collection) -> set[tuple[str, int]] | None:
    """Return pairs (image id, class id) of the published training lists, or None if all images are used."""
    if config.split_folder is None or config.benchmark is None or config.benchmark == "fss":
        return None
    assert config.fold is not None, "choose_fold has checked it"
    ids = ids_by_name(collection, config.benchmark)
    entries = read_training_entries(config.split_folder, config.benchmark, config.fold)
    if missing := sorted({entry.name for entry in entries} - ids.keys()):
        raise ValueError(
            f"the training lists name {len(missing)} images that {collection.uri} lacks, such as "
            f"{', '.join(missing[:3])}; ingest all training images"
        )
    return {(ids[entry.name], entry.class_id) for entry in entries}
