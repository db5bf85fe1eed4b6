"""Ingest one part: read and check photographs and, if the source has any, their masks, and write them.

A task needs only the collection, which contains the listing, and the source. An unusable photograph becomes a row with
the reason.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fss.collection import source_listing
from fss.collection.collection import Collection
from fss.collection.hashes import write_hashes
from fss.collection.mask_set import TRUTH
from fss.collection.part_pipeline import ALL_ROWS, RowSelection
from fss.collection.schema import (
    error_reason,
    image_table,
    make_image_id,
    mask_table,
    part_number,
    valid_text,
    with_notes,
)
from fss.collection.sources import RawItem, SourceConfig, SourceItem, item_reader
from fss.core.arrays import IGNORE, Mask
from fss.core.config import from_dict
from fss.images.color_modes import apply_orientation
from fss.images.decode import decode_image, image_orientation, sniff_format
from fss.images.decode_errors import DecodeError
from fss.images.labels import LabelMask
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import mask_row
from fss.images.perceptual_hash import perceptual_hash

THREADS = 4  # concurrent reads per part: hides the latency of an object store, and bounds the decoded images in memory


def ingest_part(collection_uri: str, part: str, selection: RowSelection = ALL_ROWS) -> dict[str, Any]:
    """Read, check and write the photographs of one part with their hashes and, if the source has any, their masks.

    Args:
        collection_uri: URI of the collection.
        part: name of the part.
        selection: the rows to make; the part is only written if it is complete.

    Returns:
        Statistics: the counts images, accepted, rejected, masks and mask_errors, the size bytes, and reasons (count by
        :func:`fss.collection.schema.error_reason`).
    """
    collection = Collection.open(collection_uri)
    source, items = _source_and_items(collection, part)
    faulty = [selection.error(row) for row in range(len(items))]
    wanted = [item for item, error in zip(selection.pick(items), selection.pick(faulty), strict=True) if error is None]
    read = item_reader(wanted, from_dict(SourceConfig, source["source"]), collection.limits)
    read_row = partial(_row, read=read, limits=collection.limits, keep_bytes=source["keep_bytes"])
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(read_row, selection.pick(items), selection.pick(faulty)))
    images, masks = [row.image for row in rows], [row.mask for row in rows]
    notes = sum((row.notes for row in rows), Counter[str]())
    if selection.only is None:
        write_hashes(collection, part, [row["image_id"] for row in images], [row.hash for row in rows])
        collection.write_part(part, image_table(images))
    if selection.only is None and source["labelled"]:
        collection.mask_set(TRUTH).write_part(part, with_notes(mask_table(masks), notes))
    errors = [row["error"] for row in images if row["error"]]
    return {
        "images": len(images),
        "accepted": len(images) - len(errors),
        "rejected": len(errors),
        "masks": sum("mask" in row for row in masks) if source["labelled"] else 0,
        "mask_errors": sum(bool(row["error"]) for row in masks) if source["labelled"] else 0,
        "bytes": sum(len(row["image"] or b"") for row in images),
        "reasons": dict(Counter(error_reason(error) for error in errors)),
    }


def part_pictures(collection_uri: str, part: str) -> list[str]:
    """Return the paths of the photographs of a part, relative to their source, in the order of its rows."""
    return [valid_text(item.relative_path) for item in _source_and_items(Collection.open(collection_uri), part)[1]]


def _source_and_items(collection: Collection, part: str) -> tuple[dict[str, Any], list[SourceItem]]:
    """Return the source of a part and the part's items."""
    number = part_number(part)
    index, source = next(
        (index, source)
        for index, source in reversed(list(enumerate(collection.metadata["sources"])))
        if source["first_part"] <= number
    )
    name = source_listing.listing_name(index, source)
    return source, source_listing.read(collection.uri, name, number - source["first_part"])


class _Row(NamedTuple):
    """What an item becomes."""

    image: dict[str, Any]
    hash: int | None
    mask: dict[str, Any]
    notes: Counter[str]


def _row(
    item: SourceItem,
    faulty: str | None,
    *,
    read: Callable[[SourceItem], RawItem],
    limits: DecodeLimits,
    keep_bytes: bool,
) -> _Row:
    """Return the rows of an item: its image, its hash, its mask and the notes on the mask."""
    raw = RawItem(error=faulty) if faulty else read(item)
    image, digest = _image_row(item, raw, limits, keep_bytes)
    notes: Counter[str] = Counter()
    return _Row(image, digest, _mask_row(image, raw, notes), notes)


def _image_row(
    item: SourceItem, raw: RawItem, limits: DecodeLimits, keep_bytes: bool
) -> tuple[dict[str, Any], int | None]:
    """Return the image row of an item, and the hash of the photograph, which is decoded once for both."""
    image: dict[str, Any] = {
        "image_id": make_image_id(raw.data, item.relative_path),
        "uri": valid_text(item.uri),
        "image": None,
        "error": raw.error,
    }
    if raw.data is None:
        return image, None
    try:
        rgb = decode_image(raw.data, limits)
        image |= {"height": rgb.shape[0], "width": rgb.shape[1], "format": sniff_format(raw.data)}
        if not keep_bytes and image["uri"] != item.uri:
            raise DecodeError("unreadable", "a file name that is not valid Unicode cannot be stored by reference")
    except DecodeError as error:
        image["error"] = str(error)
        return image, None
    image["image"] = raw.data if keep_bytes else None
    return image, perceptual_hash(rgb)


def _mask_row(image: dict[str, Any], raw: RawItem, notes: Counter[str]) -> dict[str, Any]:
    """Return the mask row of an item, and add the notes on its mask to ``notes``."""
    identity = image["image_id"]
    if image["error"]:
        return mask_row(identity, None, error="no-image: the photograph cannot be used")
    if raw.label is None or raw.data is None:
        return mask_row(identity, None, error=raw.mask_error or "missing-mask: the source has no mask for it")
    notes.update({f"objects: {reason}": count for reason, count in raw.label.left_out.items()})
    mask = _fit(raw.label, raw.data, (image["height"], image["width"]), notes)
    if mask is None:
        sizes = "mask {} x {}, photograph {} x {} (height x width)"
        text = sizes.format(*raw.label.mask.shape, image["height"], image["width"])
        return mask_row(identity, None, error=f"size-mismatch: {text}")
    notes["surrounding"] += _surrounds(mask)
    notes.update({"pixels": mask.size, "void-pixels": int(np.count_nonzero(mask == IGNORE))})
    return mask_row(identity, mask, raw.label.class_ids)


def _surrounds(mask: Mask) -> bool:
    """Return whether one class covers all edges of a picture but not its inside, as the object of an inverted mask."""
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return all(bool((edge == 1).all()) for edge in edges) and bool((mask == 0).any())


def _fit(label: LabelMask, photograph: bytes, size: tuple[int, int], notes: Counter[str]) -> Mask | None:
    """Return the mask of an upright photograph of this height and width; None if its size is another.

    A tool that ignores EXIF draws the mask on the stored pixels. Where the photograph's orientation swaps the sides,
    the mask's size tells; else the mask is taken as upright, with a note.
    """
    mask = label.mask
    orientation = 1 if label.upright else image_orientation(photograph)
    if orientation == 1:
        return mask if mask.shape == size else None
    if mask.shape == size:
        notes["exif-ambiguous"] += orientation <= 4 or size[0] == size[1]
        return mask
    if orientation >= 5 and mask.shape == size[::-1]:
        notes["exif-turned"] += 1
        return np.ascontiguousarray(apply_orientation(mask, orientation))
    return None
