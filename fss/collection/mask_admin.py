"""Renaming and deletion of mask sets; after a crash at any time a set is either complete or absent."""

from pyarrow import fs as pafs

from fss.collection import part_io
from fss.collection.mask_set import TRUTH, MaskSet
from fss.core import storage

_METADATA = "_set.json"


def rename_mask_set(mask_set: MaskSet, name: str) -> MaskSet:
    """Rename a mask set together with its acceptances, reports and neighbour tables.

    On a local disk the folder is renamed atomically. On an object store every file is copied, the metadata last, and
    then the old files are deleted; after a crash in between there are two complete sets, and one can be deleted.

    Raises:
        ValueError: the set is the ground truth, which its source fills by name, or the name is taken or invalid.
    """
    collection = mask_set.collection
    part_io.check_name(name, "the mask set")
    if TRUTH in (mask_set.name, name):
        raise ValueError(f"the mask set {TRUTH!r} belongs to the collection's source; it cannot be renamed or replaced")
    if name in collection.mask_set_names():
        raise ValueError(f"{collection.uri} has a mask set {name!r} already; delete it first, or choose another name")
    target = storage.join(collection.uri, "masks", name)
    filesystem, old = storage.resolve(mask_set.uri)
    _, new = storage.resolve(target)
    metadata = {**mask_set.metadata, "name": name}
    if isinstance(filesystem, pafs.LocalFileSystem):
        filesystem.move(old, new)
        part_io.write_json(storage.join(target, _METADATA), metadata)
        return MaskSet(collection, name, metadata)
    for file in _others(mask_set):
        filesystem.copy_file(f"{old}/{file}", f"{new}/{file}")
    part_io.write_json(storage.join(target, _METADATA), metadata)
    delete_mask_set(mask_set)
    return MaskSet(collection, name, metadata)


def delete_mask_set(mask_set: MaskSet) -> int:
    """Delete a mask set with its acceptances and reports, and return the number of deleted files.

    The metadata is deleted first, so leftovers of a crash no longer count as a mask set and a new set overwrites them.
    """
    names = [_METADATA, *_others(mask_set)]
    for name in names:
        part_io.delete(storage.join(mask_set.uri, name))
    filesystem, path = storage.resolve(mask_set.uri)
    if isinstance(filesystem, pafs.LocalFileSystem) and not storage.list_names(filesystem, path):
        filesystem.delete_dir(path)
    return len(names)


def _others(mask_set: MaskSet) -> list[str]:
    """Return the names of the files of a set except its metadata."""
    filesystem, path = storage.resolve(mask_set.uri)
    infos = filesystem.get_file_info(pafs.FileSelector(path))
    return sorted(info.base_name for info in infos if info.type == pafs.FileType.File and info.base_name != _METADATA)
