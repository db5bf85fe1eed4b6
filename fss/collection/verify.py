"""Consistency check of a whole collection, for one that was copied from elsewhere or lies on a failing disk.

The bytes of every image must match its id, ids must be unique, and every mask must be aligned with its image and have
its size and the classes of its row. No file of a part may be missing or differ from the one that was written.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fss.collection import part_io
from fss.collection.acceptance_file import check_acceptance_file
from fss.collection.collection import Collection
from fss.collection.collection_file import COLLECTION_KEYS, collection_file
from fss.collection.manifest import PartFolder
from fss.collection.mask_set import MASK_SET_KEYS, MaskSet
from fss.collection.mask_set_files import set_file
from fss.collection.part_io import read_image_bytes
from fss.collection.schema import is_image_id
from fss.collection.upgrade import part_folders
from fss.core import storage
from fss.core.arrays import IGNORE
from fss.images.decode import inspect_image
from fss.images.decode_errors import DecodeError
from fss.images.mask_codec import decode_mask

_EDITED = "it was edited, or it is damaged"
_REFRESH = "copy it again, or delete it and run `fss collection manifest` on the collection"


def find_problems(collection: Collection) -> Iterator[str]:
    """Yield the problems of a collection and its mask sets, one sentence each."""
    yield from _json_problems(collection)
    for name in collection.mask_set_names():
        yield from _acceptance_problems(collection.mask_set(name))
    sealed = part_io.has_seal(collection_file(collection.uri))
    for folder in part_folders(collection):
        yield from _file_problems(folder, recorded=sealed)
    seen: set[str] = set()
    for part in collection.part_names():
        try:
            rows = collection.read_part(part).to_pylist()
        except ValueError as error:
            yield str(error)
            continue
        for number, row in enumerate(rows):
            position = f"{part} row {number}"
            if row["image_id"] in seen:
                yield f"{position}: the image id {row['image_id']} occurs twice"
            seen.add(row["image_id"])
            if problem := _image_problem(collection, row):
                yield f"{position}: {problem}"
        for name in collection.mask_set_names():
            yield from _mask_problems(collection.mask_set(name), part, rows)


def _json_problems(collection: Collection) -> Iterator[str]:
    names = collection.mask_set_names()
    if not part_io.is_sealed(collection_file(collection.uri), COLLECTION_KEYS):
        yield f"the file collection.json is not as it was written: {_EDITED}"
    for name in names:
        file = set_file(collection.uri, name)
        if file and not part_io.is_sealed(file, MASK_SET_KEYS):
            yield f"the JSON file of the mask set {name} is not as it was written: {_EDITED}"
    folders = storage.list_names(*storage.resolve(storage.join(collection.uri, "masks")))
    for name in sorted(set(folders) - set(names)):
        yield f"the folder masks/{name} belongs to no mask set: its JSON file is gone, or a deletion was stopped"


def _acceptance_problems(mask_set: MaskSet) -> Iterator[str]:
    for name in sorted(set(mask_set.recorded_acceptances()) - set(mask_set.acceptance_names())):
        yield f"the acceptance {name} of the mask set {mask_set.name} was written, and its file is gone"
    for name in mask_set.acceptance_names():
        try:
            check_acceptance_file(mask_set.read_acceptance(name))
        except ValueError as error:
            yield str(error)


def _file_problems(folder: PartFolder, *, recorded: bool) -> Iterator[str]:
    """Yield the problems of the files of a folder.

    Args:
        folder: the folder.
        recorded: whether each part must have a record of its file; fss 0.2 wrote none.
    """
    for uri in folder.damaged_records():
        yield f"{uri}, a record of parts, is damaged or was renamed: {_REFRESH}"
    for part in folder.unrecorded() if recorded else ():
        yield f"{part} of {folder.uri} has no record of the file that was written: its record is gone; {_REFRESH}"
    for part in folder.lost():
        yield f"{part} of {folder.uri} was written, and its file is gone"
    for part, written in folder.written_hashes().items():
        file = storage.join(folder.uri, f"{part}.parquet")
        if part_io.exists(file) and hashlib.sha256(storage.read_bytes(file)).hexdigest() != written:
            yield f"{file} is not the file that was written: copy it again, or run the job that writes it again"


def _image_problem(collection: Collection, row: Mapping[str, Any]) -> str | None:
    if not is_image_id(row["image_id"]):
        return f"{row['image_id']!r} is not an image id"
    if row["error"]:
        return None
    try:
        data = read_image_bytes(row["image"], row["uri"], collection.limits, image_id=row["image_id"])
        header = inspect_image(data, collection.limits)
    except (OSError, DecodeError) as error:
        return f"the image is unusable: {error}"
    if header != (row["height"], row["width"], row["format"]):
        return f"the image is {header}, but the row has {(row['height'], row['width'], row['format'])}"
    return None


def _mask_problems(mask_set: MaskSet, part: str, images: list[dict[str, Any]]) -> Iterator[str]:
    if part not in mask_set.finished_parts():
        return
    try:
        rows = mask_set.read_part(part).to_pylist()
    except ValueError as error:
        yield str(error)
        return
    position = f"{part} of mask set {mask_set.name}"
    for number, (row, image) in enumerate(zip(rows, images, strict=True)):
        if problem := _mask_problem(row, image):
            yield f"{position}, row {number}: {problem}"


def _mask_problem(row: Mapping[str, Any], image: Mapping[str, Any]) -> str | None:
    if row["mask"] is None:
        return None if row["error"] else "there is neither a mask nor an error"
    try:
        masks = [decode_mask(data) for data in (row["mask"], row["soft"]) if data is not None]
    except ValueError as error:
        return str(error)
    for mask in masks:
        if mask.shape != (image["height"], image["width"]):
            return f"the mask is {list(mask.shape)}, but the image is {[image['height'], image['width']]}"
    counts = np.bincount(masks[0].ravel(), minlength=256)
    pixels = [entry["pixels"] for entry in row["classes"] or ()]
    if counts[1 : len(pixels) + 1].tolist() != pixels or counts[len(pixels) + 1 : IGNORE].any():
        return "the values of the mask do not match the classes of its row"
    return None
