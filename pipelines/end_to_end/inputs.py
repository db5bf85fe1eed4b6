"""What the main job starts from: pictures that become a collection, or a collection that exists."""

from dataclasses import dataclass

from fss.collection import Collection
from fss.collection.collection import collection_exists
from fss.collection.sources import SourceConfig, list_items
from fss.core import storage
from fss.core.config import config_hash
from pipelines.end_to_end.presets import SAMPLE

EVALUATION_SPLITS = ("novel", "test")  # evaluated by default, the first that a collection has


@dataclass(frozen=True, kw_only=True)
class Input:
    """Pictures for one of the roles of a job."""

    collection: str
    """The collection that holds them, or will."""
    source: SourceConfig | None
    """Where they come from; None where the collection exists already."""
    identity: str
    """Hash of what is there: equal for equal pictures."""
    part_size: int = 64
    """Pictures in a part."""
    limit: int | None = None
    """Take the first so many."""

    def describe(self) -> str:
        """Say where the pictures come from."""
        if self.source is None:
            return self.collection
        return f"painted sample ({self.source.count})" if self.source.kind == "sample" else self.source.path

    def default_split(self) -> str | None:
        """Return the class split to evaluate on; the collection must be complete."""
        splits = Collection.open(self.collection).class_splits
        return next((name for name in EVALUATION_SPLITS if name in splits), None)


def photographs_input(uri: str | None, workdir: str, limit: int | None, seed: int) -> Input:
    """Return the photographs to learn from.

    Raises:
        ValueError: there are none.
    """
    place = storage.join(workdir, "photographs")
    if uri is None:
        source = SourceConfig(kind="sample", sample="unlabelled", count=SAMPLE.photographs, seed=seed)
        return _input(place, source, limit, part_size=SAMPLE.part_size)
    # Masks beside the photographs are not for learning from.
    return _existing(uri) or _input(place, SourceConfig(path=storage.absolute_uri(uri), masks="none"), limit)


def evaluation_input(uri: str | None, photographs: str | None, workdir: str, seed: int) -> Input | None:
    """Return the labelled pictures, or None where only photographs are given.

    Raises:
        ValueError: there are no pictures with masks.
    """
    place = storage.join(workdir, "evaluation")
    if uri is None:
        if photographs is not None:
            return None
        source = SourceConfig(kind="sample", sample="labelled", count=SAMPLE.labelled, seed=seed)
        return _input(place, source, None, part_size=SAMPLE.part_size)
    return _existing(uri) or _input(place, _labelled_source(storage.absolute_uri(uri)), None)


def _labelled_source(uri: str) -> SourceConfig:
    filesystem, path = storage.resolve(uri)
    names = set(storage.list_names(filesystem, path))
    return SourceConfig(kind="folder" if {"images", "masks"} <= names else "fss1000", path=uri)


def _existing(uri: str) -> Input | None:
    if not collection_exists(uri):
        return None
    collection = Collection.open(uri)
    return Input(collection=collection.uri, source=None, identity=collection.fingerprint())


def _input(place: str, source: SourceConfig, limit: int | None, part_size: int = 64) -> Input:
    listing = list_items(source).head(limit)
    identity = config_hash(source.identity(), listing.hash())
    return Input(collection=place, source=source, identity=identity, part_size=part_size, limit=limit)
