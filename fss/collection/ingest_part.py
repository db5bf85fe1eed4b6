"""Ingest one part: read and check photographs and, if the source has any, their masks, and write them.

A task needs only the collection, which contains the listing, and the source. An unusable photograph becomes a row with
the reason.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fss.collection import source_listing
from fss.collection.collection import Collection
from fss.collection.mask_set import TRUTH
from fss.collection.schema import error_reason, image_table, make_image_id, mask_table
from fss.collection.sources import SourceConfig, SourceItem, read_item
from fss.core.config import from_dict
from fss.images.decode import DecodeError, inspect_image
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import mask_row

THREADS = 4  # concurrent reads per part: hides the latency of an object store, and bounds the decoded images in memory


def ingest_part(collection_uri: str, part: str) -> dict[str, Any]:
    """Read, check and write the photographs of one part and, if the source has any, their masks.

    Returns:
        Statistics: the counts images, accepted, rejected, masks and mask_errors, the size bytes, and reasons (count by
        :func:`fss.collection.schema.error_reason`).
    """
    collection = Collection.open(collection_uri)
    number = int(part.removeprefix("part-"))
    index, source = next(
        (index, source)
        for index, source in reversed(list(enumerate(collection.metadata["sources"])))
        if source["first_part"] <= number
    )
    items = source_listing.read(collection.uri, index, number - source["first_part"])
    read_rows = partial(
        _rows,
        config=from_dict(SourceConfig, source["source"]),
        limits=collection.limits,
        keep_bytes=source["keep_bytes"],
    )
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(read_rows, items))
    images, masks = [row[0] for row in rows], [row[1] for row in rows]
    collection.write_part(part, image_table(images))
    if source["labelled"]:
        collection.mask_set(TRUTH).write_part(part, mask_table(masks))
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


def _rows(
    item: SourceItem, *, config: SourceConfig, limits: DecodeLimits, keep_bytes: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the image row and the mask row of an item."""
    raw = read_item(item, config, limits)
    identity = make_image_id(raw.data, item.relative_path)
    image: dict[str, Any] = {"image_id": identity, "uri": _text(item.uri), "image": None, "error": raw.error}
    if raw.data is not None:
        try:
            image["height"], image["width"], image["format"] = inspect_image(raw.data, limits)
            if not keep_bytes and image["uri"] != item.uri:
                raise DecodeError("unreadable", "a file name that is not valid Unicode cannot be stored by reference")
            image["image"] = raw.data if keep_bytes else None
        except DecodeError as error:
            image["error"] = str(error)
    if image["error"]:
        return image, mask_row(identity, None, error="no-image: the photograph is quarantined")
    if raw.mask is None:
        return image, mask_row(identity, None, error=raw.mask_error or "missing-mask: the source has no mask for it")
    if raw.mask.shape != (image["height"], image["width"]):
        sizes = "mask {} x {}, photograph {} x {} (height x width)"
        text = sizes.format(*raw.mask.shape, image["height"], image["width"])
        return image, mask_row(identity, None, error=f"size-mismatch: {text}")
    return image, mask_row(identity, raw.mask, raw.class_ids)


def _text(uri: str) -> str:
    """Return the URI as valid Unicode; invalid bytes of a file name become escape sequences."""
    return os.fsencode(uri).decode(errors="backslashreplace")
