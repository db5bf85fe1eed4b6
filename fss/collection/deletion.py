"""Deletion of a collection; one that is interrupted can be repeated."""

from fss.collection import mask_set_files, part_io
from fss.collection.collection import Collection
from fss.collection.collection_file import LABEL_SHEET, PART_FOLDERS, collection_file
from fss.collection.mask_admin import delete_mask_set
from fss.core import storage


def delete_collection(uri: str) -> None:
    """Delete the collection at ``uri`` and its mask sets; other files in the folder stay.

    ``collection.json`` is deleted last, so an interrupted deletion can be repeated.

    Raises:
        ValueError: there is no collection.
    """
    collection = Collection.open(uri)
    for name in collection.mask_set_names():
        delete_mask_set(collection.mask_set(name))
    for folder in PART_FOLDERS:
        uri = storage.join(collection.uri, folder)
        parts = [name for name in storage.list_names(*storage.resolve(uri)) if name.endswith((".parquet", ".arrow"))]
        mask_set_files.delete_files(uri, parts)
    if part_io.exists(storage.join(collection.uri, LABEL_SHEET)):
        part_io.delete(storage.join(collection.uri, LABEL_SHEET))
    part_io.delete(collection_file(collection.uri))
