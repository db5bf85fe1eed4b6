"""Inputs of the main job: pictures to ingest, or an existing collection."""

from dataclasses import dataclass

from fss.collection import TRUTH, Collection
from fss.collection.collection_file import collection_exists
from fss.collection.config import SourceConfig
from fss.collection.sources import list_items
from fss.collection.sources.file_states import file_states
from fss.core import storage
from fss.core.config import config_hash
from pipelines.end_to_end.config import MaskSplitJobConfig

EVALUATION_SPLITS = ("novel", "test")  # class splits to evaluate by default; the first one that the collection has


@dataclass(frozen=True, kw_only=True)
class Input:
    """Pictures to learn from or to evaluate on."""

    collection: str
    """URI of the collection, which may not exist yet."""
    source: SourceConfig | None
    """Source to ingest. None: the collection exists."""
    files: str | None = None
    """State of the files of the source. None: the collection exists."""
    identity: str
    """Hash of the pictures: equal for equal pictures."""
    contents: str | None = None
    """Hash of the files of a collection that exists, and of its labels. None: the pictures are not ingested yet."""
    class_splits: tuple[str, ...] = ()
    """Names of the class splits."""
    limit: int | None = None
    """Largest number of pictures. None: all."""

    def describe(self) -> str:
        """Return a readable description of the source."""
        if self.source is None:
            return self.collection
        return f"painted sample ({self.source.count})" if self.source.kind == "sample" else self.source.path

    def evaluation_classes(self, classes: str | None) -> str | None:
        """Return the class split to evaluate on: ``classes``, or where it is None a split named novel or test, if any.

        Raises:
            ValueError: there is no class split of this name.
        """
        if classes is None:
            return next((name for name in EVALUATION_SPLITS if name in self.class_splits), None)
        if classes not in self.class_splits:
            names = ", ".join(self.class_splits) or "none"
            raise ValueError(
                f"evaluate.classes is {classes!r}, but {self.describe()} has no such class split; its splits are "
                f"{names}"
            )
        return classes


def photographs_input(config: MaskSplitJobConfig) -> Input:
    """Return the photographs to learn from.

    Raises:
        ValueError: the source has no pictures.
    """
    uri = storage.join(storage.absolute_uri(config.output), "photographs")
    if config.photographs is None:
        source = SourceConfig(kind="sample", sample="unlabelled", count=config.sample.unlabelled, seed=config.seed)
        return _new(uri, source, config.limit)
    # The training is self-supervised, so masks beside the photographs are ignored.
    source = SourceConfig(path=storage.absolute_uri(config.photographs), masks="none")
    return _existing(config.photographs, config.relabel.truth_mask_set) or _new(uri, source, config.limit)


def evaluation_input(config: MaskSplitJobConfig) -> Input | None:
    """Return the labelled pictures, or None if only photographs are given.

    Raises:
        ValueError: the source has no pictures with masks.
    """
    uri = storage.join(storage.absolute_uri(config.output), "evaluation")
    if config.evaluation is not None:
        return _existing(config.evaluation, TRUTH) or _new(
            uri, _labelled_source(storage.absolute_uri(config.evaluation)), None
        )
    if config.photographs is not None:
        return None
    source = SourceConfig(kind="sample", sample="labelled", count=config.sample.labelled, seed=config.seed)
    return _new(uri, source, None)


def _labelled_source(uri: str) -> SourceConfig:
    filesystem, path = storage.resolve(uri)
    names = set(storage.list_names(filesystem, path))
    return SourceConfig(kind="folder" if {"images", "masks"} <= names else "fss1000", path=uri)


def _existing(uri: str, mask_set: str | None) -> Input | None:
    """Return the collection at a URI, if there is one; the job reads the labels of its mask set ``mask_set``."""
    if not collection_exists(uri):
        return None
    collection = Collection.open(uri)
    labelled = mask_set is not None and mask_set in collection.mask_set_names()
    return Input(
        collection=collection.uri,
        source=None,
        identity=collection.fingerprint(),
        contents=collection.mask_set(str(mask_set)).contents() if labelled else collection.parts.contents(),
        class_splits=tuple(collection.class_splits),
    )


def _new(uri: str, source: SourceConfig, limit: int | None) -> Input:
    listing = list_items(source).head(limit)
    identity = config_hash(source.identity(), listing.hash())
    splits = tuple(listing.class_splits)
    files = file_states(listing)
    return Input(collection=uri, source=source, files=files, identity=identity, class_splits=splits, limit=limit)
