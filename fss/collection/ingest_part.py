"""Make one part of a collection: read, check and write photographs and, where the source has them, their masks.

Needs nothing but the collection, which holds its listing, and the source. What cannot be used becomes a row with its
reason.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fss.collection import source_listing
from fss.collection.collection import Collection
from fss.collection.mask_set import TRUTH
from fss.collection.schema import image_table, make_image_id, mask_table
from fss.collection.sources import SourceConfig, SourceItem, read_item
from fss.core.config import from_dict
from fss.images.decode import DecodeError, inspect_image
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import mask_row

THREADS = 4  # reads of one part in flight: an object store answers late, and a decoded picture may be large


def ingest_part(collection_uri: str, part: str) -> dict[str, Any]:
    """Make one part: read, check and write its photographs and, where the source has them, their masks.

    Returns:
        Statistics: images, accepted, rejected, masks, mask_errors, bytes, and reasons (count by slug).
    """
    collection = Collection.open(collection_uri)
    number = int(part.removeprefix("part-"))
    place, record = next(
        (place, record)
        for place, record in reversed(list(enumerate(collection.metadata["sources"])))
        if record["first_part"] <= number
    )
    items = source_listing.read(collection.uri, place, number - record["first_part"])
    make = partial(
        _rows, config=from_dict(SourceConfig, record["source"]), limits=collection.limits, keep=record["keep_bytes"]
    )
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(make, items))
    images, masks = [row[0] for row in rows], [row[1] for row in rows]
    collection.write_part(part, image_table(images))
    if record["labelled"]:
        collection.mask_set(TRUTH).write_part(part, mask_table(masks))
    errors = [row["error"] for row in images if row["error"]]
    return {
        "images": len(images),
        "accepted": len(images) - len(errors),
        "rejected": len(errors),
        "masks": sum("mask" in row for row in masks) if record["labelled"] else 0,
        "mask_errors": sum(bool(row["error"]) for row in masks) if record["labelled"] else 0,
        "bytes": sum(len(row["image"] or b"") for row in images),
        "reasons": dict(Counter(error_reason(error) for error in errors)),
    }


def error_reason(error: str) -> str:
    """Return the reason of an error: ``truncated`` of ``truncated: 300 bytes are missing``."""
    return error.split(":", 1)[0]


def _rows(
    item: SourceItem, *, config: SourceConfig, limits: DecodeLimits, keep: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the image row and the mask row of an item."""
    raw = read_item(item, config, limits)
    identity = make_image_id(raw.data, item.relative_path)
    image: dict[str, Any] = {"image_id": identity, "uri": _text(item.uri), "image": None, "error": raw.error}
    if raw.data is not None:
        try:
            image["height"], image["width"], image["format"] = inspect_image(raw.data, limits)
            if not keep and image["uri"] != item.uri:
                raise DecodeError("unreadable", "a name that is no valid Unicode cannot be kept by reference")
            image["image"] = raw.data if keep else None
        except DecodeError as error:
            image["error"] = str(error)
    if image["error"]:
        return image, mask_row(identity, None, error="no-image: the photograph is quarantined")
    if raw.mask is None:
        return image, mask_row(identity, None, error=raw.mask_error or "missing-mask: the source has none")
    if raw.mask.shape != (image["height"], image["width"]):
        sizes = "mask {} x {}, photograph {} x {} (height x width)"
        text = sizes.format(*raw.mask.shape, image["height"], image["width"])
        return image, mask_row(identity, None, error=f"size-mismatch: {text}")
    return image, mask_row(identity, raw.mask, raw.class_ids)


def _text(uri: str) -> str:
    """Return the URI as valid Unicode: odd bytes of a file name become escapes."""
    return os.fsencode(uri).decode(errors="backslashreplace")
