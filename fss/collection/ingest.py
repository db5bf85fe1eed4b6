"""Ingest a source into a collection, part by part.

:func:`ingest_local` does all of it in this process. The ingest job takes the same steps on many machines:
:func:`start_ingest` lists the source and writes the listing into the collection,
:func:`fss.collection.ingest_part.ingest_part` writes one part, and :func:`finish_ingest` completes the collection.
Parts are independent: they can be written on any machine, in any order, and again after a crash.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fss.collection import source_listing
from fss.collection.collection import Collection
from fss.collection.collection_file import SourcesChangedError, check_place, collection_exists
from fss.collection.config import PART_BYTES, SHARDS
from fss.collection.deletion import delete_collection
from fss.collection.duplicates import DropDuplicates
from fss.collection.ingest_part import ingest_part
from fss.collection.label_check import LabelSummary, check_labels, check_pairs, summarize_labels
from fss.collection.mask_set import TRUTH
from fss.collection.schema import part_name
from fss.collection.source_entry import divide_source, is_same_source, largest_part, next_part, renamed_classes
from fss.collection.sources import Listing, SourceConfig, SourceItem, list_items
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.images.limits import DecodeLimits


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """A source whose listing is written into a collection, ready to be ingested part by part."""

    collection: Collection
    """Collection that the source is ingested into."""
    parts: list[str]
    """Names of all parts of the collection, finished or not."""
    items: int
    """Number of photographs in the parts."""
    source: SourceConfig
    """Source of the photographs."""
    listing: Listing
    """Listing of the source."""
    index: int
    """Number of the source in the collection, counted from 0."""
    complete: bool = True
    """Whether all photographs of the source are ingested, not only the first ones."""

    def finished(self) -> set[str]:
        """Return the names of the parts that are complete, masks included."""
        finished = set(self.collection.part_names())
        if TRUTH in self.collection.mask_set_names():
            finished &= self.collection.mask_set(TRUTH).finished_parts()
        return finished

    def sources(self) -> list[dict[str, Any]]:
        """Return what determines the contents of the collection: its sources, without what an ingest notes of them."""
        outcome = ("notes", "ignored", "listing_name")
        sources = self.collection.metadata["sources"]
        return [{key: value for key, value in source.items() if key not in outcome} for source in sources]


@dataclass(frozen=True, kw_only=True)
class IngestOutcome:
    """What a finished ingest knows about the ground truth."""

    labels: LabelSummary | None
    """Counts over the ground truth; None if the source has no masks."""
    warnings: tuple[str, ...]
    """What looks wrong about the masks, one sentence each."""


def ingest_local(
    source: SourceConfig,
    collection: str,
    *,
    name: str | None = None,
    part_size: int | None = None,
    part_bytes: int = PART_BYTES,
    limits: DecodeLimits | None = None,
    keep_bytes: bool = True,
    limit: int | None = None,
    append: bool = False,
    overwrite: bool = False,
    drop: DropDuplicates | None = None,
) -> Collection:
    """Ingest a source into a collection in this process; an interrupted ingest is resumed.

        collection = ingest_local(SourceConfig(path="photos"), "my-collection")
        print(collection.notes, collection.quarantine().num_rows)

    The result is that of the ingest job, which uses all cores or a cluster. See :func:`start_ingest` for the arguments;
    ``drop`` quarantines near-duplicates.

    Returns:
        The collection. Its ``notes`` and ``ignored`` say what the ingest noticed and left out.

    Raises:
        ValueError: there is nothing to ingest, no photograph of a labelled source has a mask, or the collection has
            other contents and neither ``append`` nor ``overwrite`` is set.
        OSError: the object store does not answer; the finished parts remain.
    """
    ingest = start_ingest(
        collection,
        source,
        name=name,
        part_size=part_size,
        part_bytes=part_bytes,
        limits=limits,
        keep_bytes=keep_bytes,
        limit=limit,
        append=append,
        overwrite=overwrite,
    )
    finished = ingest.finished()
    for part in ingest.parts:
        if part not in finished:
            ingest_part(ingest.collection.uri, part)
    finish_ingest(ingest, drop)
    return ingest.collection


def start_ingest(
    uri: str,
    source: SourceConfig,
    *,
    name: str | None = None,
    part_size: int | None = None,
    part_bytes: int = PART_BYTES,
    limits: DecodeLimits | None = None,
    keep_bytes: bool = True,
    limit: int | None = None,
    append: bool = False,
    overwrite: bool = False,
) -> Ingest:
    """List a source and write the listing into a collection; an interrupted ingest of the same source is resumed.

    Args:
        uri: collection to create or to resume.
        source: source of the photographs.
        name: name of the collection; by default the last component of the source's path.
        part_size: number of images per part. None: 64, and more where there are over 1,024 parts.
        part_bytes: largest size of a part in bytes if ``part_size`` is None.
        limits: limits on images.
        keep_bytes: copy the encoded images into the parts; otherwise store only their URIs.
        limit: ingest at most this many items, the first ones.
        append: add new items of the source as new parts.
        overwrite: delete an existing collection first, mask sets included.

    Raises:
        ValueError: there is nothing to ingest, no photograph of a labelled source has a mask, ``uri`` is no place
            for a collection, or the collection has other contents and neither ``append`` nor ``overwrite`` is set.
    """
    if not keep_bytes and source.kind == "sample":
        raise ValueError("sample images are painted on demand; the collection must store their bytes: set keep_bytes")
    if not keep_bytes and source.kind in SHARDS:
        raise ValueError(
            f"photographs of a {source.kind} source lie within shards and are no files of their own, so the collection "
            "must store their bytes; set keep_bytes"
        )
    if part_size is not None and part_size < 1:
        raise ValueError(f"part_size must be at least 1, got {part_size}")
    listing = list_items(source)
    check_place(uri, source.path, (item.relative_path for item in listing.items))
    if not keep_bytes and any(item.embedded for item in listing.items):
        raise ValueError(
            "photographs lie within annotation files, so the collection must store their bytes; set keep_bytes"
        )
    if listing.labelled:
        check_pairs(listing.items, listing.unmatched, source, limit=limit)
    photographs = len(listing.items)
    listing = listing.head(limit)
    entry = {
        "source": to_dict(source),
        "identity": source.identity(),
        "listing": listing.hash(),
        "keep_bytes": keep_bytes,
        "limits": (limits or DecodeLimits()).as_dict(),
        "part_size": part_size,
        "part_bytes": part_bytes,
        "first_part": 0,
        "items": len(listing.items),
        "labelled": listing.labelled,
    }
    if listing.shared_annotation is not None:
        entry["meaning"] = config_hash(listing.shared_annotation)
    if collection_exists(uri) and overwrite:
        delete_collection(uri)
    if collection_exists(uri):
        collection, index = _open(uri, listing, entry, append=append)
    else:
        collection, index = _create(storage.absolute_uri(uri), listing, entry, name or _name(source), limits), 0
    sources: Sequence[dict[str, Any]] = collection.metadata["sources"]
    _prepare_truth(collection, sources[index])
    parts = max(next_part(each) for each in sources)
    return Ingest(
        collection=collection,
        parts=[part_name(number) for number in range(parts)],
        items=sum(each["items"] for each in sources),
        source=source,
        listing=listing,
        index=index,
        complete=len(listing.items) == photographs,
    )


def finish_ingest(ingest: Ingest, drop: DropDuplicates | None = None) -> IngestOutcome:
    """Complete a collection whose parts are all written.

    Near-duplicates of the source are quarantined if ``drop`` is given. Every class of the ground truth gets a
    name, and the collection keeps what the ingest noticed and left out.
    """
    collection, listing = ingest.collection, ingest.listing
    labels, warnings = None, listing.warnings
    if drop is not None:
        drop.run(collection, first_part=int(collection.metadata["sources"][ingest.index]["first_part"]))
    if TRUTH in collection.mask_set_names():
        labels = summarize_labels(collection.mask_set(TRUTH))
        names = {c: listing.classes.get(c, f"class {c}") for c in labels.classes if c not in collection.classes}
        if names:
            collection.add_classes(names)
        warnings += check_labels(
            labels,
            ingest.source,
            classes=listing.classes,
            unmatched=listing.unmatched,
            complete=ingest.complete,
        )
    collection.record_ingest(ingest.index, notes=(*listing.notes, *warnings), ignored=listing.ignored)
    return IngestOutcome(labels=labels, warnings=warnings)


def _create(uri: str, listing: Listing, entry: dict[str, Any], name: str, limits: DecodeLimits | None) -> Collection:
    parts = divide_source(listing, entry)
    entry["listing_name"] = _write_listing(uri, 0, entry, parts)
    return Collection.create(
        uri,
        name=name,
        source={**entry, "parts": len(parts)},
        part_size=largest_part(parts, entry),
        classes=listing.classes,
        class_splits=listing.class_splits,
        limits=limits,
    )


def _write_listing(uri: str, index: int, entry: dict[str, Any], parts: list[list[SourceItem]]) -> str:
    """Write the listing of a new source, and return its name."""
    name = f"{index:05d}-{config_hash(entry)}"
    source_listing.write(uri, name, parts)
    return name


def _open(uri: str, listing: Listing, entry: dict[str, Any], *, append: bool) -> tuple[Collection, int]:
    """Open an existing collection, and return it with the index of the source, which is added with ``append``."""
    while True:
        collection = Collection.open(uri)
        sources = collection.metadata["sources"]
        same = [index for index, old in enumerate(sources) if is_same_source(old, entry)]
        if same:
            return collection, same[0]
        if not append:
            raise ValueError(
                f"the collection at {collection.uri} was made from another source, other settings or another state of "
                "the folder; use --append to add the new photographs as new parts, --overwrite to delete it with its "
                "mask sets and start again, or another path"
            )
        with suppress(SourcesChangedError):  # another process came first: its photographs are no new ones
            _append(collection, listing, entry)
            return collection, len(sources)


def _append(collection: Collection, listing: Listing, entry: dict[str, Any]) -> None:
    """Write the listing of the new items and add it as another source.

    Raises:
        SourcesChangedError: another process has added a source since the collection was opened.
        ValueError: the source cannot be added.
    """
    old = collection.metadata["sources"]
    if any(source["identity"] != entry["identity"] for source in old):
        raise ValueError(
            f"--append only adds new files of {old[0]['source']['path']!r} with the same settings; "
            "use another collection"
        )
    renamed = renamed_classes(listing.classes, collection.classes)
    if renamed or listing.labelled != old[0]["labelled"] or entry.get("meaning") != old[0].get("meaning"):
        changes = ", ".join(f"class {c} is {renamed[c]!r} now" for c in sorted(renamed)[:3]) or "their file"
        raise ValueError(f"the classes of the folder have changed ({changes}); ingest it into a new collection")
    old_paths = {
        item.relative_path
        for index, source in enumerate(old)
        for item in source_listing.read_all(collection.uri, source_listing.listing_name(index, source))
    }
    new_items = [item for item in listing.items if item.relative_path not in old_paths]
    different = [key for key in ("keep_bytes", "limits") if old[-1][key] != entry[key]]
    different += [] if entry["part_size"] in (None, old[-1]["part_size"]) else ["part_size"]
    if different:
        raise ValueError(
            f"--append keeps the settings of the collection, but {', '.join(different)} differ; restore them"
        )
    entry = {**entry, "part_size": old[-1]["part_size"], "first_part": next_part(old[-1]), "items": len(new_items)}
    others = sum(source["items"] for source in old)
    parts = divide_source(replace(listing, items=new_items), entry, others=others)
    entry["parts"] = len(parts)
    entry["listing_name"] = _write_listing(collection.uri, len(old), entry, parts)
    collection.add_source(entry, part_size=largest_part(parts, entry))


def _prepare_truth(collection: Collection, entry: dict[str, Any]) -> None:
    if entry["labelled"]:
        provenance = {"method": "ground truth", "source": entry["source"]}
        collection.create_mask_set(TRUTH, config_hash=entry["identity"], provenance=provenance)


def _name(source: SourceConfig) -> str:
    return (
        f"sample-{source.sample}" if source.kind == "sample" else storage.absolute_uri(source.path).rsplit("/", 1)[-1]
    )
