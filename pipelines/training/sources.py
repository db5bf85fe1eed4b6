"""The collections of a training: what is read of each of them before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from fss.collection import Collection, ImageIndex, MaskSet
from fss.training.few_shot.class_selection import ClassSelection, select_classes
from fss.training.few_shot.mask_split_stream import HELD_OUT_SPLIT
from fss.training.few_shot.usable_rows import RowTable, scan
from pipelines.training.config import TrainJobConfig


@dataclass(frozen=True)
class TrainingSource:
    """The data of one collection."""

    masks: MaskSet
    """Mask set to train on."""
    acceptance: str | None
    """Acceptance of the masks. None: all masks."""
    rows: RowTable | None = None
    """Usable rows, for split episodes."""
    held_out_rows: RowTable | None = None
    """Usable rows of the acceptance that validates the checkpoints, for split episodes. None: ``rows``."""
    selection: ClassSelection | None = None
    """Classes with their pictures, for class episodes."""
    images: ImageIndex | None = None
    """Positions of the pictures, for class episodes."""

    @classmethod
    def open(cls, config: TrainJobConfig, collection: str, mask_set: str, acceptance: str | None) -> Self:
        """Read all small columns that the training needs.

        Raises:
            ValueError: a collection, mask set or acceptance is missing, or the data do not fit the settings.
        """
        masks = Collection.open(collection).mask_set(mask_set)
        accepted = masks.read_acceptance(acceptance).accepted if acceptance else None
        held_out = config.stream.held_out
        if config.episodes == "classes":
            selection = select_classes(config.classes, masks, accepted=accepted, held_out=held_out)
            return cls(masks, acceptance, selection=selection, images=ImageIndex.build(masks.collection))
        rows, validation = scan(masks.collection, masks, config.split, accepted=accepted, held_out=held_out), None
        if config.held_out_acceptance:
            others = masks.read_acceptance(config.held_out_acceptance).accepted
            validation = scan(masks.collection, masks, HELD_OUT_SPLIT, accepted=others, held_out=held_out)
        return cls(masks, acceptance, rows=rows, held_out_rows=validation)

    @property
    def usable(self) -> int:
        """Number of pictures to train on, or of pairs of picture and class."""
        if self.rows is not None:
            return self.rows.counts["train"]
        assert self.selection is not None
        return self.selection.pairs

    @property
    def pictures(self) -> int:
        """Number of pictures to train on."""
        if self.selection is None:
            return self.usable
        return len({name for index in self.selection.index.values() for name in index.image_ids.to_pylist()})

    def for_validation(self) -> Self:
        """Return the source with the rows that validate the checkpoints."""
        return self if self.held_out_rows is None else replace(self, rows=self.held_out_rows)

    def hashes(self, config: TrainJobConfig) -> dict[str, str]:
        """Return the hashes of the images, masks and acceptances, and of the classes."""
        data = {"collection": self.masks.collection.fingerprint(), "mask_set": self.masks.config_hash}
        if self.acceptance:
            data["acceptance"] = self.masks.read_acceptance(self.acceptance).hash
        if config.held_out_acceptance and self.selection is None:
            data["held_out_acceptance"] = self.masks.read_acceptance(config.held_out_acceptance).hash
        if self.selection is not None:
            data["train_classes"] = self.selection.hash
        return data


def open_sources(config: TrainJobConfig) -> tuple[TrainingSource, ...]:
    """Open the collection of a training and its further collections.

    Raises:
        ValueError: a collection is named twice, or one of them cannot be used (see :meth:`TrainingSource.open`).
    """
    mix = config.mix
    uris = [config.collection, *mix.collections]
    if twice := sorted({uri for uri in uris if uris.count(uri) > 1}):
        raise ValueError(f"{twice[0]} is named twice; give it once, with a larger --mix.weights")
    if len(uris) > 1 and config.episodes == "classes" and config.classes.benchmark:
        raise ValueError("a benchmark is trained on one collection; leave --mix.collections or --classes.benchmark out")
    mask_sets = [config.mask_set, *(mix.mask_sets or [config.mask_set] * len(mix.collections))]
    acceptances = [config.acceptance, *(mix.acceptances or [config.acceptance] * len(mix.collections))]
    names = zip(uris, mask_sets, acceptances, strict=True)
    sources = tuple(TrainingSource.open(config, *each) for each in names)
    if config.classes.val_collection is None:
        _check_classes(sources)
    return sources


def _check_classes(sources: Sequence[TrainingSource]) -> None:
    """Refuse training classes whose name is that of a validation class in another collection.

    Classes of equal names in two collections stay two classes: the pictures of an episode come from one collection.
    """
    selections = [(source.masks.collection.classes, source.selection) for source in sources if source.selection]
    if len(selections) < 2:
        return
    (names, first), *others = selections
    val = {names[c].casefold() for c in first.val if c in names}
    for source, (own, selection) in zip(sources[1:], others, strict=True):
        if both := sorted(own[c] for c in selection.train if own.get(c, "").casefold() in val):
            raise ValueError(
                f"{len(both)} training classes of {source.masks.collection.uri} are validation classes of the first "
                f"collection ({', '.join(both[:5])}); name other classes with --classes.train or --classes.val"
            )
