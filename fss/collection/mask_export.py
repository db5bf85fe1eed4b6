"""Masks of a set one by one, for export to files that other programs read, and their PNG form.

File names consist of safe characters and the image id only. Names and URIs of a collection are untrusted and never
determine the path that a file is written to.
"""

import re
from collections.abc import Collection as Ids
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from fss.collection.mask_set import MaskSet
from fss.collection.schema import is_image_id
from fss.core.arrays import IGNORE, Mask
from fss.images.mask_codec import decode_mask, encode_mask

Values = Literal["object", "class"]
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class ExportedMask:
    """One mask of a set, decoded for export."""

    name: str
    """File name without suffix: the sanitised name of the photograph and eight digits that make it unique."""
    image_id: str
    """Image id of the photograph."""
    uri: str
    """URI of the photograph in its source."""
    mask: Mask
    """Index mask, uint8 [H,W]."""
    classes: tuple[int, ...]
    """``classes[v - 1]`` is the class of mask value v."""


def iterate_masks(mask_set: MaskSet, accepted: Ids[str] | None = None) -> Iterator[ExportedMask]:
    """Yield the masks of a set in the order of parts and rows; rows without a mask are left out.

    Args:
        mask_set: mask set to export.
        accepted: image ids to export; None exports all.

    Raises:
        ValueError: an image id is malformed.
    """
    for part in mask_set.ordered_parts():
        uris = mask_set.collection.read_part(part, ["uri"]).column("uri").to_pylist()
        rows = mask_set.read_part(part, ["image_id", "mask", "classes"]).to_pylist()
        for uri, row in zip(uris, rows, strict=True):
            if row["mask"] is None or (accepted is not None and row["image_id"] not in accepted):
                continue
            yield ExportedMask(
                name=safe_name(uri, row["image_id"]),
                image_id=row["image_id"],
                uri=uri,
                mask=decode_mask(row["mask"]),
                classes=tuple(entry["id"] for entry in row["classes"] or ()),
            )


def safe_name(uri: str, image_id: str) -> str:
    """Return a file name for the mask of a photograph, without suffix and path separators.

    Raises:
        ValueError: the image id is malformed.
    """
    if not is_image_id(image_id):
        raise ValueError(
            f"{image_id!r} is not an image id (16 hex digits, a dash, 8 hex digits); the collection is damaged"
        )
    stem = _UNSAFE.sub("_", PurePosixPath(uri).stem)[:80].strip("_")
    return f"{stem}-{image_id[-8:]}" if stem else image_id[-8:]


def encode_png(exported: ExportedMask, values: Values) -> bytes:
    """Encode a mask as an 8-bit PNG.

    Args:
        exported: mask to encode.
        values: ``object`` writes 255 for any class and 128 for ignored pixels; ``class`` writes the class id and 255
            for ignored pixels. Background is 0 in both.

    Raises:
        ValueError: ``values`` is ``class`` and a class id is outside 1..254.
    """
    table = np.zeros(256, np.uint8)
    table[IGNORE] = 128 if values == "object" else IGNORE
    for value, class_id in enumerate(exported.classes, start=1):
        if values == "class" and not 1 <= class_id < IGNORE:
            raise ValueError(f"class {class_id} does not fit into 8 bits; export COCO JSON, or values=object")
        table[value] = 255 if values == "object" else class_id
    return encode_mask(table[exported.mask])


def contents(mask_set: MaskSet, accepted: Ids[str] | None = None) -> tuple[list[str], set[int]]:
    """Return the URIs of the photographs whose masks :func:`iterate_masks` yields, and the classes in these masks."""
    uris: list[str] = []
    class_ids: set[int] = set()
    for part in mask_set.ordered_parts():
        names = mask_set.collection.read_part(part, ["uri"]).column("uri").to_pylist()
        rows = mask_set.read_part(part, ["image_id", "classes"]).to_pylist()
        for uri, row in zip(names, rows, strict=True):
            if row["classes"] is not None and (accepted is None or row["image_id"] in accepted):
                uris.append(uri)
                class_ids |= {entry["id"] for entry in row["classes"]}
    return uris, class_ids
