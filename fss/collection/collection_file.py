"""The file collection.json: what it must contain, its checks, and changes that never lose those of another process."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from fss.collection import part_io
from fss.core import storage
from fss.core.config import from_dict, settings
from fss.images.limits import DecodeLimits

FORMAT = 2
"""Format of new collections. Parts of format 1 have one row group, and mask sets keep their metadata beside them."""


@settings
class _ClassName:
    id: int
    name: str


@settings
class _Content:
    """What collection.json contains beside its format."""

    name: str
    part_size: Annotated[int, Ge(1)]
    classes: tuple[_ClassName, ...]
    class_splits: dict[str, tuple[int, ...]]
    limits: DecodeLimits
    sources: Annotated[tuple[dict[str, Any], ...], MinLen(1)]


_NAMES = tuple(field.name for field in fields(_Content))
COLLECTION_KEYS = ("format", *_NAMES)
"""Keys of collection.json."""


PART_FOLDERS = ("images", "hashes", "listings", "manifest", "fragments")
"""Folders of a collection with files of its parts; those of its mask sets are not among them."""
LABEL_SHEET = "labels.png"
"""Contact sheet of the ground truth, in the folder of the collection."""
_OWN = (*PART_FOLDERS, "masks", "metadata", "tracking", "lock.json", "summary.json", LABEL_SHEET)
"""What a collection has beside collection.json."""


def collection_file(uri: str) -> str:
    """Return the URI of the collection.json of a collection."""
    return storage.join(uri, "collection.json")


def collection_exists(uri: str) -> bool:
    """Return whether there is a collection at ``uri``.

    Raises:
        ValueError: the object store does not answer.
    """
    storage.check_access(uri)
    return part_io.exists(collection_file(storage.absolute_uri(uri)))


def check_place(uri: str, source: str, listed: Iterable[str]) -> None:
    """Refuse to begin a collection among other files, or within its source, whose listing would then have its pictures.

    What a deleted collection has left does not count, nor do hidden files.

    Args:
        uri: where the collection shall be.
        source: folder of its photographs; empty for none.
        listed: paths of the photographs in it. Where all are in other folders, the collection will not be listed.

    Raises:
        ValueError: there is no collection at ``uri``, and it is no place for one.
    """
    if collection_exists(uri):
        return
    place, root = storage.real_uri(uri), f"{storage.real_uri(source)}/"
    if source and place.startswith(root) and {"", place.removeprefix(root).split("/")[0]} & {*map(_top, listed)}:
        raise ValueError(
            f"{uri} lies within the source {source}, and pictures of the collection would be taken for photographs of "
            "the source; choose a place outside of it"
        )
    found = [(name, name in _OWN) for name in storage.list_names(*storage.resolve(uri))]
    images = storage.list_names(*storage.resolve(storage.join(uri, "images")))
    found += [(f"images/{name}", name.endswith(".parquet")) for name in images]
    foreign = [name for name, own in found if not own and not name.rpartition("/")[2].startswith(".")]
    if foreign:
        raise ValueError(
            f"{uri} is no collection, and has other files ({', '.join(foreign[:3])}{', ...' if foreign[3:] else ''}); "
            "give a new folder for the collection"
        )


def _top(path: str) -> str:
    """Return the first folder of a path, empty if it is in none."""
    return path.split("/")[0] if "/" in path else ""


def read_collection_file(uri: str) -> dict[str, Any]:
    """Return the content of the collection.json of a collection.

    Raises:
        ValueError: another version wrote it, or it is damaged.
    """
    metadata = part_io.read_sealed_json(collection_file(uri))
    if (written := metadata.get("format")) not in range(1, FORMAT + 1):
        raise ValueError(f"the collection at {uri} has format {written}; this version reads 1 to {FORMAT}")
    try:
        from_dict(_Content, {name: metadata[name] for name in _NAMES if name in metadata})
    except ValueError as error:
        raise ValueError(f"{collection_file(uri)} is damaged: {error}") from error
    return metadata


class SourcesChangedError(Exception):
    """Another process has added a source to a collection since it was opened."""


def create_collection_file(uri: str, metadata: dict[str, Any]) -> None:
    """Write the collection.json of a new collection.

    Raises:
        ValueError: another process has created a collection there.
    """

    def create(current: dict[str, Any] | None) -> dict[str, Any]:
        if current not in (None, metadata):
            raise ValueError(f"another process has just created a collection at {uri}; run it again to go on")
        return metadata

    part_io.update_sealed_json(collection_file(uri), create)


def update_collection_file(uri: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Change collection.json as it is at this moment, whoever else writes it, and return its new content.

    ``change`` is called again if another process came first.

    Raises:
        ValueError: the file is gone or damaged.
    """

    def change_existing(current: dict[str, Any] | None) -> dict[str, Any]:
        if current is None:
            raise ValueError(f"the collection at {uri} is gone: another process has deleted it")
        return change(current)

    return part_io.update_sealed_json(collection_file(uri), change_existing)
