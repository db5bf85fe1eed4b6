"""Which classes of a labelled collection a training learns from, and which it is validated on."""

from collections.abc import Collection as Ids
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fss.collection import ClassIndex, Collection, MaskSet
from fss.core.config import config_hash
from fss.core.rng import keyed_rng
from fss.episodes.benchmarks import choose_fold, ids_by_name
from fss.episodes.episode_plan import EpisodePlan, make_plan
from fss.episodes.published_lists import read_training_entries
from fss.training.few_shot.config import ClassesConfig


@dataclass(frozen=True, kw_only=True)
class ClassSelection:
    """The classes of a training, and the pictures that show them."""

    train: tuple[int, ...]
    """Class ids to train on."""
    val: tuple[int, ...]
    """Class ids to validate on."""
    index: ClassIndex = field(repr=False)
    """The pictures to train on, of the training classes alone."""

    @property
    def hash(self) -> str:
        """16 hex digits over the training classes and their pictures."""
        return config_hash({str(c): [entry.image_id for entry in self.index[c]] for c in self.index})

    @property
    def pairs(self) -> int:
        """Pictures to train on, each counted for every class in it."""
        return sum(map(len, self.index.values()))


def select_classes(
    config: ClassesConfig, masks: MaskSet, *, accepted: Ids[str] | None = None, held_out: float = 0.0
) -> ClassSelection:
    """Choose the classes and look up their pictures.

    Args:
        config: the choice.
        masks: mask set to train on.
        accepted: image ids to train on; None takes all.
        held_out: share of the training classes to validate on where the settings name none.

    Raises:
        ValueError: no such split, class or fold, classes that are both trained and validated on in one collection, or
            none to hold out.
    """
    collection = masks.collection
    splits = _splits(config, collection)
    train = _classes(config.train, splits, collection)
    if config.val:
        val = _classes(config.val, splits, collection)
        if config.val_collection is None and (both := sorted(set(train) & set(val))):
            names = ", ".join(collection.classes[c] for c in both[:5])
            raise ValueError(
                f"{len(both)} classes are both trained and validated on ({names}); take them out of either"
            )
    else:
        train, val = _hold_out(train, held_out)
    index = ClassIndex.build(masks, min_pixels=config.min_pixels, accepted=accepted)
    listed = _listed(config, collection)
    chosen = {c: [e for e in index.get(c, ()) if listed is None or (e.image_id, c) in listed] for c in train}
    return ClassSelection(train=tuple(train), val=tuple(val), index=ClassIndex(chosen))


def validation_plan(config: ClassesConfig, masks: MaskSet, classes: Sequence[int]) -> EpisodePlan:
    """Return the episodes that checkpoints are judged by: the same for every training on these classes.

    Args:
        config: how many episodes, of how many shots.
        masks: mask set to validate on.
        classes: to validate on.

    Raises:
        ValueError: a class with too few pictures.
    """
    return make_plan(
        ClassIndex.build(masks, min_pixels=config.min_pixels),
        classes=classes,
        episodes=config.val_episodes,
        shots=config.shots,
        seed=0,
        fingerprint=masks.collection.fingerprint(),
    )


def _splits(config: ClassesConfig, collection: Collection) -> Mapping[str, Sequence[int]]:
    if config.benchmark is None:
        if config.fold is not None or config.split_folder is not None:
            raise ValueError("folds and published lists belong to a benchmark: give --classes.benchmark too")
        return collection.class_splits
    fold = choose_fold(collection, config.benchmark, config.fold, order=config.order, split_folder=config.split_folder)
    return {name: ids for name, ids in (("train", fold.train), ("val", fold.val), ("test", fold.test)) if ids}


def _classes(words: Sequence[str], splits: Mapping[str, Sequence[int]], collection: Collection) -> list[int]:
    """Return the class ids that some names of splits and classes mean, sorted."""
    by_name = {name: class_id for class_id, name in collection.classes.items()}
    if unknown := [word for word in words if word not in splits and word not in by_name]:
        raise ValueError(
            f"{', '.join(unknown)}: no class split or class of {collection.uri}; its splits are "
            f"{', '.join(splits) or 'none'}, its classes {', '.join(list(by_name)[:10])}"
            f"{', ...' if len(by_name) > 10 else ''}"
        )
    if not words:
        raise ValueError("there is no class to train on: name class splits or classes")
    return sorted({c for word in words for c in (splits[word] if word in splits else [by_name[word]])})


def _hold_out(classes: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Divide classes into those to train on and those to validate on, by draws that depend on nothing but the class."""
    order = sorted(classes, key=lambda c: float(keyed_rng(0, item=c, purpose="held_out.class").random()))
    count = max(1, round(share * len(order)))
    if count >= len(order) or share <= 0:
        raise ValueError(
            f"of {len(order)} classes none can be held out to validate on (held_out is {share}); name classes to "
            "validate on, train on more classes, or raise held_out"
        )
    return sorted(order[count:]), sorted(order[:count])


def _listed(config: ClassesConfig, collection: Collection) -> set[tuple[str, int]] | None:
    """Return image and class of the published training lists; None where all pictures are taken."""
    if config.split_folder is None or config.benchmark is None or config.benchmark == "fss":
        return None
    assert config.fold is not None, "a fold was chosen"
    ids = ids_by_name(collection, config.benchmark)
    entries = read_training_entries(config.split_folder, config.benchmark, config.fold)
    if missing := sorted({entry.name for entry in entries} - ids.keys()):
        raise ValueError(
            f"the training lists name {len(missing)} images that {collection.uri} lacks, such as "
            f"{', '.join(missing[:3])}; ingest the complete training images"
        )
    return {(ids[entry.name], entry.class_id) for entry in entries}
