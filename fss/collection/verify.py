"""Read all of a collection and hold it against itself: for one that came from elsewhere, or from a failing disk.

Every picture must be what its identity says, every identity unique, every mask aligned with its picture, of its size,
and of the classes that its row names.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fss.collection.collection import Collection
from fss.collection.mask_set import MaskSet
from fss.collection.part_io import read_image_bytes
from fss.core.arrays import IGNORE
from fss.images.decode import DecodeError, inspect_image
from fss.images.mask_codec import decode_mask

_IDENTITY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")


def find_problems(collection: Collection) -> Iterator[str]:
    """Yield what is wrong with a collection and its mask sets, one sentence each; nothing where all is well."""
    seen: set[str] = set()
    for part in collection.part_names():
        try:
            rows = collection.read_part(part).to_pylist()
        except ValueError as error:
            yield str(error)
            continue
        for number, row in enumerate(rows):
            where = f"{part} row {number}"
            if row["image_id"] in seen:
                yield f"{where}: the image id {row['image_id']} is there twice"
            seen.add(row["image_id"])
            if wrong := _picture(collection, row):
                yield f"{where}: {wrong}"
        for name in collection.mask_set_names():
            yield from _masks(collection.mask_set(name), part, rows)


def _picture(collection: Collection, row: Mapping[str, Any]) -> str | None:
    if not _IDENTITY.fullmatch(row["image_id"]):
        return f"{row['image_id']!r} is no image id"
    if row["error"]:
        return None
    try:
        data = read_image_bytes(row["image"], row["uri"], collection.limits)
        found = inspect_image(data, collection.limits)
    except (OSError, DecodeError) as error:
        return f"the picture cannot be used: {error}"
    if hashlib.sha256(data).hexdigest()[:16] != row["image_id"][:16]:
        return f"the picture is not the one that {row['image_id']} names"
    if found != (row["height"], row["width"], row["format"]):
        return f"the picture is {found}, the row says {(row['height'], row['width'], row['format'])}"
    return None


def _masks(mask_set: MaskSet, part: str, images: list[dict[str, Any]]) -> Iterator[str]:
    if part not in mask_set.finished_parts():
        return
    try:
        rows = mask_set.read_part(part).to_pylist()
    except ValueError as error:
        yield str(error)
        return
    where = f"{part} of mask set {mask_set.name}"
    if [row["image_id"] for row in rows] != [image["image_id"] for image in images]:
        yield f"{where}: its rows are not those of the image part, in their order"
        return
    for number, (row, image) in enumerate(zip(rows, images, strict=True)):
        if wrong := _mask(row, image):
            yield f"{where}, row {number}: {wrong}"


def _mask(row: Mapping[str, Any], image: Mapping[str, Any]) -> str | None:
    if row["mask"] is None:
        return None if row["error"] else "there is neither a mask nor a reason"
    try:
        masks = [decode_mask(data) for data in (row["mask"], row["soft"]) if data is not None]
    except ValueError as error:
        return str(error)
    for mask in masks:
        if mask.shape != (image["height"], image["width"]):
            return f"a mask {list(mask.shape)} of a picture {[image['height'], image['width']]}"
    counts = np.bincount(masks[0].ravel(), minlength=256)
    told = [entry["pixels"] for entry in row["classes"] or ()]
    if counts[1 : len(told) + 1].tolist() != told or counts[len(told) + 1 : IGNORE].any():
        return "the mask's values are not the classes that its row names"
    return None
