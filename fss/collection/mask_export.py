"""Masks of a set to files that other programs read: a folder of PNGs, or COCO JSON.

Names of files are made here, from letters, digits and the picture's identity: a collection's own names and URIs come
from elsewhere and never decide where something is written.
"""

import json
import re
from collections.abc import Callable, Iterator
from collections.abc import Collection as Ids
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fss.collection.mask_set import MaskSet
from fss.core.arrays import IGNORE, Mask
from fss.images.mask_codec import binary_mask, decode_mask, encode_mask

Values = Literal["object", "class"]
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_IDENTITY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class ExportedMask:
    """One mask of a set, on its way out."""

    name: str
    """File name without suffix: the photograph's, made safe, and eight digits that make it unique."""
    image_id: str
    """The photograph's identity."""
    uri: str
    """Where the photograph came from."""
    mask: Mask
    """Index mask, uint8 [H,W]."""
    classes: tuple[int, ...]
    """``classes[v - 1]`` is the class of mask value v."""


def iterate_masks(mask_set: MaskSet, accepted: Ids[str] | None = None) -> Iterator[ExportedMask]:
    """Yield the masks of a set, in the order of parts and rows; rows without one are left out.

    Args:
        mask_set: the masks.
        accepted: image ids to take; None takes all.

    Raises:
        ValueError: an image id that is none.
    """
    finished = mask_set.finished_parts()
    for part in [name for name in mask_set.collection.part_names() if name in finished]:
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
    """Return a file name for a photograph's mask that leads nowhere else.

    Raises:
        ValueError: the id is none.
    """
    if not _IDENTITY.fullmatch(image_id):
        raise ValueError(
            f"{image_id!r} is no image id (16 hex digits, a dash, 8 hex digits); the collection is damaged"
        )
    stem = _UNSAFE.sub("_", PurePosixPath(uri).stem)[:80].strip("_")
    return f"{stem}-{image_id[-8:]}" if stem else image_id[-8:]


def encode_png(exported: ExportedMask, values: Values) -> bytes:
    """Encode a mask as 8-bit PNG: ``object`` has 255 on any class, ``class`` the class id; background is 0.

    Ignored pixels are 128 in the first and 255 in the second.

    Raises:
        ValueError: a class id above 254 for ``class``.
    """
    table = np.zeros(256, np.uint8)
    table[IGNORE] = 128 if values == "object" else IGNORE
    for place, class_id in enumerate(exported.classes, start=1):
        if values == "class" and not 1 <= class_id < IGNORE:
            raise ValueError(f"class {class_id} does not fit into 8 bits; export as COCO, or the object alone")
        table[place] = 255 if values == "object" else class_id
    return encode_mask(table[exported.mask])


def write_coco(
    masks: Iterator[ExportedMask], class_names: dict[int, str], write: Callable[[bytes], Any]
) -> tuple[int, int]:
    """Write masks as COCO instances: one annotation per picture and class, its area as run lengths.

    ``write`` takes the JSON piece by piece, so that no more than one picture's masks are in memory.

    Returns:
        How many pictures and annotations were written.
    """
    images: list[dict[str, Any]] = []
    seen: set[int] = set()
    number = 0
    write(b'{"annotations": [')
    for exported in masks:
        height, width = exported.mask.shape
        images.append({"id": len(images) + 1, "file_name": exported.uri, "height": height, "width": width})
        images[-1]["image_id"] = exported.image_id
        for class_id in exported.classes:
            annotation = _annotation(binary_mask(exported.mask, exported.classes, class_id) == 1)
            if annotation is None:
                continue
            number += 1
            seen.add(class_id)
            record = {"id": number, "image_id": len(images), "category_id": class_id, "iscrowd": 0, **annotation}
            write((b",\n" if number > 1 else b"\n") + json.dumps(record).encode())
    categories = [{"id": class_id, "name": class_names.get(class_id, f"class {class_id}")} for class_id in sorted(seen)]
    rest = json.dumps({"images": images, "categories": categories})
    write(b"\n], " + rest[1:].encode() + b"\n")
    return len(images), number


def encode_run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths of a mask [H,W]: column by column, background first."""
    flat = np.concatenate(([False], mask.ravel(order="F")))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    edges = np.concatenate(([0], changes, [mask.size]))
    return [int(length) for length in np.diff(edges)]


def _annotation(mask: NDArray[np.bool_]) -> dict[str, Any] | None:
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": {"size": list(mask.shape), "counts": encode_run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": [int(value) for value in box],
    }
