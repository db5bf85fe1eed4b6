"""Mask sets renamed and deleted, so that a kill at any time leaves a set that is whole or one that is not there."""

from pyarrow import fs as pafs

from fss.collection import part_io
from fss.collection.mask_set import TRUTH, MaskSet
from fss.core import storage

_RECORD = "_set.json"


def rename_mask_set(mask_set: MaskSet, name: str) -> MaskSet:
    """Give a mask set another name; acceptances, reports and neighbours go along.

    On a local disk the folder is moved at once. On an object store every file is copied first, the record last, and
    only then the old ones are deleted: after a kill in between there are two whole sets, and one can be deleted.

    Raises:
        ValueError: the ground truth, which its source fills by name; a name that is taken or no good.
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
    record = {**mask_set.metadata, "name": name}
    if isinstance(filesystem, pafs.LocalFileSystem):
        filesystem.move(old, new)
        part_io.write_json(storage.join(target, _RECORD), record)
        return MaskSet(collection, name, record)
    for file in _others(mask_set):
        filesystem.copy_file(f"{old}/{file}", f"{new}/{file}")
    part_io.write_json(storage.join(target, _RECORD), record)
    delete_mask_set(mask_set)
    return MaskSet(collection, name, record)


def delete_mask_set(mask_set: MaskSet) -> int:
    """Delete a mask set with its acceptances and reports; returns how many files went.

    The record goes first: what a kill leaves behind is no mask set any more, and a new one of the name writes over it.
    """
    names = [_RECORD, *_others(mask_set)]
    for name in names:
        part_io.delete(storage.join(mask_set.uri, name))
    filesystem, path = storage.resolve(mask_set.uri)
    if isinstance(filesystem, pafs.LocalFileSystem) and not storage.list_names(filesystem, path):
        filesystem.delete_dir(path)
    return len(names)


def _others(mask_set: MaskSet) -> list[str]:
    """The files of a set but its record."""
    filesystem, path = storage.resolve(mask_set.uri)
    found = filesystem.get_file_info(pafs.FileSelector(path))
    return sorted(info.base_name for info in found if info.type == pafs.FileType.File and info.base_name != _RECORD)
