"""Bring a source into a collection, part by part.

:func:`start_ingest` lists the source and writes the listing into the collection;
:func:`fss.collection.ingest_part.ingest_part` then writes one part. Parts are independent: they can be written on any
machine, in any order, and again after a crash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fss.collection import source_listing
from fss.collection.collection import Collection, collection_exists, delete_collection
from fss.collection.index import ClassIndex
from fss.collection.mask_set import TRUTH
from fss.collection.schema import part_name
from fss.collection.sources import Listing, SourceConfig, list_items
from fss.core import storage
from fss.core.config import to_dict
from fss.images.limits import DecodeLimits


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """A source on its way into a collection."""

    collection: Collection
    """The collection, with its listing written."""
    parts: list[str]
    """The parts that this source fills."""
    items: int
    """Photographs in them."""
    ignored: dict[str, int]
    """Files left out, by reason."""
    notes: tuple[str, ...] = ()
    """What differs from the source's standard download, and where to get it."""

    def finished(self) -> set[str]:
        """Return the parts that are complete, masks included."""
        finished = set(self.collection.part_names())
        if TRUTH in self.collection.mask_set_names():
            finished &= self.collection.mask_set(TRUTH).finished_parts()
        return finished


def start_ingest(
    uri: str,
    source: SourceConfig,
    *,
    name: str | None = None,
    part_size: int = 64,
    limits: DecodeLimits | None = None,
    keep_bytes: bool = True,
    limit: int | None = None,
    append: bool = False,
    overwrite: bool = False,
) -> Ingest:
    """List a source and prepare its parts; an interrupted ingest of the same source is resumed.

    Args:
        uri: where the collection is or will be.
        source: where the photographs come from.
        name: of the collection; by default the last name of the source's path.
        part_size: images in a part.
        limits: what a picture may be.
        keep_bytes: copy the encoded pictures into the parts; otherwise only their URIs.
        limit: take the first so many items.
        append: add what the source has gained as new parts.
        overwrite: delete the collection that is there, mask sets included.

    Raises:
        ValueError: nothing to ingest, or the collection holds something else and neither append nor overwrite is set.
    """
    if not keep_bytes and source.kind == "sample":
        raise ValueError("pictures of the sample are painted on demand, so their bytes must be kept in the collection")
    found = list_items(source).head(limit)
    record = {
        "source": to_dict(source),
        "identity": source.identity(),
        "listing": found.hash(),
        "keep_bytes": keep_bytes,
        "limits": (limits or DecodeLimits()).as_dict(),
        "part_size": part_size,
        "first_part": 0,
        "items": len(found.items),
        "labelled": found.labelled,
    }
    if collection_exists(uri) and overwrite:
        delete_collection(uri)
    if not collection_exists(uri):
        collection = _create(storage.absolute_uri(uri), found, record, name or _name(source), part_size, limits)
        return _ingest(collection, record, found)
    collection = Collection.open(uri)
    same = [old for old in collection.metadata["sources"] if _kept(old) == _kept(record)]
    if same:
        return _ingest(collection, same[0], found)
    if not append:
        raise ValueError(
            f"the collection at {collection.uri} was made from another source, other settings or another state of the "
            "folder; give --append to add the new photographs as new parts, --overwrite to start again (its mask sets "
            "go too), or another place"
        )
    return _ingest(collection, _append(collection, found, record), found)


def add_missing_class_names(collection: Collection) -> None:
    """Give every class that the ground truth shows a name, after all parts are made."""
    if TRUTH not in collection.mask_set_names():
        return
    seen = ClassIndex.build(collection.mask_set(TRUTH))
    missing = {class_id: f"class {class_id}" for class_id in seen if class_id not in collection.classes}
    if missing:
        collection.add_classes(missing)


def _create(
    uri: str, found: Listing, record: dict[str, Any], name: str, part_size: int, limits: DecodeLimits | None
) -> Collection:
    if part_size < 1:
        raise ValueError(f"part_size is 1 or more, got {part_size}")
    source_listing.write(uri, 0, found.items, part_size)
    collection = Collection.create(
        uri,
        name=name,
        source=record,
        part_size=part_size,
        classes=found.classes,
        class_splits=found.class_splits,
        limits=limits,
    )
    _prepare_truth(collection, record)
    return collection


def _append(collection: Collection, found: Listing, record: dict[str, Any]) -> dict[str, Any]:
    """Write the listing of what is new and record it as another source."""
    old = collection.metadata["sources"]
    if any(source["identity"] != record["identity"] for source in old):
        raise ValueError(f"--append adds what {old[0]['source']['path']!r} has gained, with the same settings")
    lost = {key: value for key, value in found.classes.items() if collection.classes.get(key, value) != value}
    if lost or found.labelled != old[0]["labelled"]:
        raise ValueError("the classes of the folder have changed; ingest it into a new collection")
    known = {item.relative_path for place in range(len(old)) for item in source_listing.read_all(collection.uri, place)}
    fresh = [item for item in found.items if item.relative_path not in known]
    unlike = [key for key in ("keep_bytes", "limits", "part_size") if old[-1][key] != record[key]]
    if unlike:
        raise ValueError(f"--append keeps the settings of the collection; {', '.join(unlike)} differ")
    last = old[-1]
    first_part = last["first_part"] + _parts(last["items"], collection.part_size)
    record = {**record, "first_part": first_part, "items": len(fresh)}
    source_listing.write(collection.uri, len(old), fresh, collection.part_size)
    collection.add_source(record)
    return record


def _ingest(collection: Collection, record: dict[str, Any], found: Listing) -> Ingest:
    _prepare_truth(collection, record)
    sources: Sequence[dict[str, Any]] = collection.metadata["sources"]
    total = max(source["first_part"] + _parts(source["items"], collection.part_size) for source in sources)
    return Ingest(
        collection=collection,
        parts=[part_name(number) for number in range(total)],
        items=sum(source["items"] for source in sources),
        ignored=found.ignored,
        notes=found.notes,
    )


def _prepare_truth(collection: Collection, record: dict[str, Any]) -> None:
    if record["labelled"]:
        provenance = {"method": "ground truth", "source": record["source"]}
        collection.create_mask_set(TRUTH, config_hash=record["identity"], provenance=provenance)


def _kept(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[key] for key in ("identity", "listing", "keep_bytes", "limits", "part_size"))


def _parts(items: int, part_size: int) -> int:
    return -(-items // part_size)


def _name(source: SourceConfig) -> str:
    return (
        f"sample-{source.sample}" if source.kind == "sample" else storage.absolute_uri(source.path).rsplit("/", 1)[-1]
    )
