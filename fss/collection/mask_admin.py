"""Renaming and deletion of mask sets; after a crash at any time a set is either complete or absent."""

import os
from pathlib import Path

from pyarrow import fs as pafs

from fss.collection import part_io
from fss.collection.mask_set import TRUTH, MaskSet
from fss.collection.mask_set_files import (
    OLD_SET_NAME,
    SET_NAME,
    delete_files,
    is_derived,
    list_files,
    metadata_uri,
    move_metadata,
    parts_uri,
)
from fss.core import storage


def rename_mask_set(mask_set: MaskSet, name: str) -> MaskSet:
    """Rename a mask set together with its acceptances, reports and neighbour tables.

    Every file is copied (linked on a local disk), the metadata last, and then the old files are deleted. After a crash
    in between there are two complete sets, and one can be deleted.

    Raises:
        ValueError: the set is the ground truth, which its source fills by name, or the name is taken or invalid.
    """
    collection = mask_set.collection
    part_io.check_name(name, "the mask set")
    if TRUTH in (mask_set.name, name):
        raise ValueError(f"the mask set {TRUTH!r} belongs to the collection's source; it cannot be renamed or replaced")
    if name in collection.mask_set_names():
        raise ValueError(f"{collection.uri} has a mask set {name!r} already; delete it first, or choose another name")
    move_metadata(collection.uri, mask_set.name)
    metadata = {**MaskSet.open(collection, mask_set.name).metadata, "name": name}
    for folder in (parts_uri, metadata_uri):
        old, new = folder(collection.uri, mask_set.name), folder(collection.uri, name)
        for file in list_files(old):
            if file != SET_NAME:
                _copy(storage.join(old, file), storage.join(new, file))
    renamed = MaskSet(collection, name, metadata)
    renamed.write_metadata()
    delete_mask_set(mask_set)
    return renamed


def delete_mask_set(mask_set: MaskSet) -> int:
    """Delete a mask set with its acceptances and reports, and return the number of deleted files.

    The metadata is deleted first, so leftovers of a crash no longer count as a mask set and a new set overwrites them.
    """
    metadata = sorted(list_files(mask_set.metadata_uri), key=lambda name: name != SET_NAME)
    parts = [name for name in list_files(mask_set.uri) if is_derived(name) or name == OLD_SET_NAME]
    parts.sort(key=lambda name: name != OLD_SET_NAME)
    for uri, names in ((mask_set.metadata_uri, metadata), (mask_set.uri, parts)):
        delete_files(uri, names)
    return len(metadata) + len(parts)


def _copy(source: str, target: str) -> None:
    """Copy a file; on a local disk that supports links, both names share the bytes."""
    filesystem, old = storage.resolve(source)
    _, new = storage.resolve(target)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        filesystem.copy_file(old, new)
        return
    Path(new).parent.mkdir(parents=True, exist_ok=True)
    Path(new).unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:
        filesystem.copy_file(old, new)
