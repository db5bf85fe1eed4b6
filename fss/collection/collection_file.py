"""The file collection.json: what it must contain, its checks, and changes that never lose those of another process."""

from collections.abc import Callable
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
