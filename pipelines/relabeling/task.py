"""What every relabelling process runs: the features of some parts, and the new masks of some parts."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fss.collection import ClassIndex, Collection, MaskSet
from fss.models import FewShotSegmenter
from fss.relabel import RelabelConfig
from fss.relabel.class_bank import bank_reader, build_bank
from fss.relabel.part_relabelling import feature_parts, relabel_parts
from fss.relabel.relabeller import Relabeller
from fss.relabel.supports import shot_reader
from fss.relabel.votes import Voter
from pipelines.runtime.model_source import ModelSource, load_model

Outcomes = Iterator[tuple[str, Mapping[str, Any] | Exception]]


@dataclass(frozen=True, kw_only=True)
class LabelledShots:
    """Where the shots of a class bank come from."""

    collection: str | None = None
    """A labelled collection; another than the one that is relabelled."""
    mask_set: str = "truth"
    """Its mask set with the labels."""
    classes: str | None = None
    """Class split to take, such as train; None: all classes."""

    def pictures(self) -> tuple[MaskSet, dict[int, list[str]]]:
        """Return the mask set and, by class, the ids of the pictures that show it.

        Raises:
            ValueError: no such collection, mask set or class split.
        """
        if self.collection is None:
            raise ValueError("supports from a bank need labelled shots: give --bank.collection")
        collection = Collection.open(self.collection)
        masks = collection.mask_set(self.mask_set)
        if self.classes is not None and self.classes not in collection.class_splits:
            known = ", ".join(collection.class_splits) or "none"
            raise ValueError(f"{collection.uri} has no class split {self.classes!r}; it has {known}")
        index = ClassIndex.build(masks)
        chosen = list(index) if self.classes is None else collection.class_splits[self.classes]
        return masks, {c: [entry.image_id for entry in index.get(c, ())] for c in chosen}


@dataclass(frozen=True, kw_only=True)
class RelabelTask:
    """What a process needs to know."""

    collection: str
    """The collection."""
    name: str
    """The mask set that is being made."""
    source: str
    """The mask set of before."""
    identity: str
    """The configuration hash of the set: it tells models apart that were one name's."""
    model: ModelSource
    """The segmenter."""
    earlier: tuple[ModelSource, ...]
    """Earlier checkpoints of it."""
    config: RelabelConfig
    """How masks are made."""
    shots: LabelledShots
    """Of the class bank."""
    device: str
    """Where the networks run."""
    cache_gb: float
    """Features of supports to keep, of each network."""

    def masks(self) -> MaskSet:
        """Open the set that is being made."""
        return Collection.open(self.collection).mask_set(self.name)

    def current(self) -> MaskSet:
        """Open the set of before."""
        return Collection.open(self.collection).mask_set(self.source)


def make_features(parts: Sequence[str], *, task: RelabelTask) -> Outcomes:
    """Write the features of some parts; see ``fss.relabel.part_relabelling``."""
    return feature_parts(
        parts,
        masks=task.masks(),
        current=task.current(),
        segmenter=_segmenter(task),
        dims=task.config.dims,
        seed=task.config.seed,
        device=task.device,
    )


def make_masks(parts: Sequence[str], *, task: RelabelTask) -> Outcomes:
    """Make the masks of some parts; see ``fss.relabel.part_relabelling``."""
    return relabel_parts(parts, masks=task.masks(), current=task.current(), relabeller=_relabeller(task))


def one_part(part: str, *, make: Callable[..., Outcomes], task: RelabelTask) -> Mapping[str, Any]:
    """Make one part; what goes wrong is raised."""
    ((_, outcome),) = make([part], task=task)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@functools.lru_cache(maxsize=1)
def _segmenter(task: RelabelTask) -> FewShotSegmenter:
    """Keep the segmenter from part to part."""
    return load_model(task.model).to(task.device)


@functools.lru_cache(maxsize=1)
def _relabeller(task: RelabelTask) -> Relabeller:
    """Keep the relabeller, with all supports that it has encoded."""
    segmenter, bank = _segmenter(task), None
    size = segmenter.config.image_size
    if task.config.supports == "bank":
        labelled, pictures = task.shots.pictures()
        read = bank_reader(labelled, size)
        bank = build_bank(segmenter, pictures, read, task.config)
    else:
        read = shot_reader(task.current(), size)
    networks = [segmenter, *map(load_model, task.earlier)]
    voter, *earlier = [Voter(network, read, device=task.device, cache_gb=task.cache_gb) for network in networks]
    return Relabeller(task.config, voter, earlier=earlier, bank=bank)
