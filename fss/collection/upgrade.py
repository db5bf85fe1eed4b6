"""Bringing a collection of format 1 to the current format, in place.

Every step leaves a collection that opens, and skips what is done already, so the upgrade may be killed and repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from fss.collection import part_io
from fss.collection.collection import Collection
from fss.collection.collection_file import FORMAT
from fss.collection.manifest import PartFolder
from fss.collection.mask_set_files import move_metadata
from fss.collection.value_ranges import KEY
from fss.core import storage


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """What an upgrade did."""

    format: int
    """Format that the collection had."""
    moved: int
    """Mask sets whose files were moved out of the folders of parts."""
    rewritten: int
    """Parts that were written again, in row groups and with the ranges of their pictures and masks."""


def upgrade_collection(collection: Collection) -> Upgrade:
    """Move the files of mask sets to their folders, rewrite outdated parts, and write the manifests.

    No picture, mask or id changes. Trainings on parts of more than 64 rows read them in another order afterwards.

    Raises:
        ValueError: a part is damaged.
    """
    before = int(collection.metadata["format"])
    moved = sum(move_metadata(collection.uri, name) for name in collection.mask_set_names())
    rewritten = sum(_rewrite(folder, part) for folder in part_folders(collection) for part in _outdated_parts(folder))
    collection.record_format(FORMAT)
    refresh_manifests(collection)
    return Upgrade(format=before, moved=moved, rewritten=rewritten)


def refresh_manifests(collection: Collection) -> int:
    """Bring the manifests of the images and all mask sets up to date, and return the number of parts added to them."""
    return sum(folder.refresh() for folder in part_folders(collection))


def part_folders(collection: Collection) -> list[PartFolder]:
    """Return the folders of parts: images, then mask sets."""
    return [collection.parts, *(collection.mask_set(name).parts for name in collection.mask_set_names())]


def _outdated_parts(folder: PartFolder) -> Iterator[str]:
    """Yield the parts that have larger row groups than parts are written with, or no ranges of their values."""
    for part in part_io.list_parts(folder.uri):
        fs, path = storage.resolve(storage.join(folder.uri, f"{part}.parquet"))
        with storage.open_file(fs, path) as stream:
            metadata = pq.read_metadata(stream)
        sizes = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        if KEY.encode() not in (metadata.metadata or {}) or max(sizes, default=0) > part_io.ROW_GROUP:
            yield part


def _rewrite(folder: PartFolder, part: str) -> bool:
    folder.write(part, part_io.read(folder.uri, part, folder.schema, None))
    return True
