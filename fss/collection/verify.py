"""Consistency check of a whole collection, for one that was copied from elsewhere or lies on a failing disk.

The bytes of every image must match its id, ids must be unique, and every mask must be aligned with its image and have
its size and the classes of its row.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fss.collection.collection import Collection
from fss.collection.mask_set import MaskSet
from fss.collection.part_io import read_image_bytes
from fss.collection.schema import is_image_id
from fss.core.arrays import IGNORE
from fss.images.decode import inspect_image
from fss.images.decode_errors import DecodeError
from fss.images.mask_codec import decode_mask


def find_problems(collection: Collection) -> Iterator[str]:
    """Yield the problems of a collection and its mask sets, one sentence each."""
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
