"""Summaries of a collection for people: counts, parts, mask sets and their provenance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fss.collection.collection import Collection
from fss.collection.mask_set import MaskSet
from fss.collection.part_io import read_image_bytes
from fss.collection.schema import error_reason
from fss.core.arrays import Mask, Rgb
from fss.core.rng import keyed_rng
from fss.images.decode import decode_image
from fss.images.mask_codec import any_class, decode_mask


@dataclass(frozen=True, kw_only=True)
class ImageOverview:
    """Summary of the photographs of a collection."""

    parts: int
    """Number of finished image parts."""
    images: int
    """Number of rows in the parts."""
    unusable: Counter[str]
    """Number of unusable rows by reason."""
    formats: Counter[str]
    """Number of usable rows by format."""
    sizes: tuple[int, int]
    """Median height and width in pixels; 0 if no row is usable."""
    stored_bytes: int
    """Total size of the image parts in bytes."""


@dataclass(frozen=True, kw_only=True)
class MaskOverview:
    """Summary of a mask set."""

    name: str
    """Name of the mask set."""
    parts: int
    """Number of finished parts."""
    masks: int
    """Number of rows with a mask."""
    without: Counter[str]
    """Number of rows without a mask by reason."""
    classes: int
    """Number of distinct classes."""
    config_hash: str
    """Hash of the configuration that produced the masks."""
    provenance: dict[str, Any]
    """Origin of the masks."""
    acceptances: dict[str, int]
    """Number of accepted masks by acceptance."""


def summarize_images(collection: Collection) -> ImageOverview:
    """Summarise the photographs of a collection without decoding any."""
    names = collection.part_names()
    rows = [
        row for part in names for row in collection.read_part(part, ["height", "width", "format", "error"]).to_pylist()
    ]
    usable = [row for row in rows if not row["error"]]
    median = [int(np.median([row[side] for row in usable])) if usable else 0 for side in ("height", "width")]
    return ImageOverview(
        parts=len(names),
        images=len(rows),
        unusable=_reasons(rows),
        formats=Counter(row["format"] for row in usable),
        sizes=(median[0], median[1]),
        stored_bytes=collection.image_bytes(),
    )


def summarize_masks(mask_set: MaskSet) -> MaskOverview:
    """Summarise a mask set without decoding any mask."""
    finished = sorted(mask_set.finished_parts())
    rows = [row for part in finished for row in mask_set.read_part(part, ["classes", "error"]).to_pylist()]
    return MaskOverview(
        name=mask_set.name,
        parts=len(finished),
        masks=sum(row["error"] is None for row in rows),
        without=_reasons(rows),
        classes=len({entry["id"] for row in rows for entry in row["classes"] or ()}),
        config_hash=mask_set.config_hash,
        provenance=mask_set.provenance,
        acceptances={name: len(mask_set.read_acceptance(name).accepted) for name in mask_set.acceptance_names()},
    )


def sample_tiles(
    collection: Collection, mask_set: MaskSet | None, *, count: int, seed: int
) -> list[tuple[Rgb, Mask, str]]:
    """Return randomly chosen images with their masks and captions, as tiles of a contact sheet.

    Args:
        collection: collection of the images.
        mask_set: mask set to read; None gives empty masks and captions.
        count: largest number of tiles.
        seed: seed of the choice.

    Returns:
        Image, uint8 [H, W, 3]; mask, uint8 [H, W] with 1 for any class, 0 elsewhere and 255 for ignored pixels; and
        the share of the mask as a caption.
    """
    names = collection.part_names() if mask_set is None else mask_set.ordered_parts()
    order = keyed_rng(seed, item=len(names), purpose="inspect").permutation(len(names))
    tiles: list[tuple[Rgb, Mask, str]] = []
    rows_per_part = -(-count // max(1, len(names)))
    for part in [names[int(index)] for index in order]:
        tiles += _tiles(collection, mask_set, part, min(rows_per_part, count - len(tiles)), seed)
        if len(tiles) >= count:
            break
    return tiles


def _tiles(
    collection: Collection, mask_set: MaskSet | None, part: str, count: int, seed: int
) -> list[tuple[Rgb, Mask, str]]:
    images = collection.read_part(part, ["image", "uri", "error"]).to_pylist()
    encoded = mask_set.read_part(part, ["mask"]).column("mask").to_pylist() if mask_set else [None] * len(images)
    usable = [row for row, image in enumerate(images) if not image["error"] and (mask_set is None or encoded[row])]
    order = keyed_rng(seed, item=part, purpose="inspect").permutation(len(usable))[: max(0, count)]
    tiles: list[tuple[Rgb, Mask, str]] = []
    for row in [usable[int(index)] for index in order]:
        rgb = decode_image(
            read_image_bytes(images[row]["image"], images[row]["uri"], collection.limits), collection.limits
        )
        data = encoded[row]
        mask = any_class(decode_mask(data)) if data else np.zeros(rgb.shape[:2], np.uint8)
        tiles.append((rgb, mask, f"{float((mask == 1).mean()):.0%} of the image" if mask_set else ""))
    return tiles


def _reasons(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter(error_reason(row["error"]) for row in rows if row["error"])
