"""What a collection holds, for a person: counts, parts, mask sets and where they come from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fss.collection.collection import Collection
from fss.collection.mask_set import MaskSet
from fss.collection.part_io import read_image_bytes
from fss.core.arrays import Mask, Rgb
from fss.core.rng import keyed_rng
from fss.images.decode import decode_image
from fss.images.mask_codec import decode_mask


@dataclass(frozen=True, kw_only=True)
class ImageOverview:
    """The photographs of a collection."""

    parts: int
    """Finished image parts."""
    images: int
    """Rows in them."""
    unusable: Counter[str]
    """Rows that cannot be used, by reason."""
    formats: Counter[str]
    """Usable rows by format."""
    sizes: tuple[int, int]
    """Median height and width in pixels; 0 where there is no usable row."""
    stored_bytes: int
    """Of the image parts."""


@dataclass(frozen=True, kw_only=True)
class MaskOverview:
    """One mask set of a collection."""

    name: str
    """Its name."""
    parts: int
    """Finished parts."""
    masks: int
    """Rows that have a mask."""
    without: Counter[str]
    """Rows without one, by reason."""
    classes: int
    """Different classes in it."""
    config_hash: str
    """Of the configuration that made it."""
    provenance: dict[str, Any]
    """Where it comes from."""
    acceptances: dict[str, int]
    """How many masks each acceptance takes."""


def summarize_images(collection: Collection) -> ImageOverview:
    """Count a collection's photographs; no pixel is decoded."""
    names = collection.part_names()
    rows = [
        row for part in names for row in collection.read_part(part, ["height", "width", "format", "error"]).to_pylist()
    ]
    good = [row for row in rows if not row["error"]]
    middle = [int(np.median([row[side] for row in good])) if good else 0 for side in ("height", "width")]
    return ImageOverview(
        parts=len(names),
        images=len(rows),
        unusable=_reasons(rows),
        formats=Counter(row["format"] for row in good),
        sizes=(middle[0], middle[1]),
        stored_bytes=collection.image_bytes(),
    )


def summarize_masks(mask_set: MaskSet) -> MaskOverview:
    """Count a mask set; no mask is decoded."""
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
    """Draw pictures of a collection with their masks (values 0, 1 for any class, 255) and the masks' share in words."""
    names = [name for name in collection.part_names() if mask_set is None or name in mask_set.finished_parts()]
    order = keyed_rng(seed, item=len(names), purpose="inspect").permutation(len(names))
    tiles: list[tuple[Rgb, Mask, str]] = []
    each = -(-count // max(1, len(names)))  # rows of every part, where there are few parts
    for part in [names[int(place)] for place in order]:
        tiles += _tiles(collection, mask_set, part, min(each, count - len(tiles)), seed)
        if len(tiles) >= count:
            break
    return tiles


def _tiles(
    collection: Collection, mask_set: MaskSet | None, part: str, count: int, seed: int
) -> list[tuple[Rgb, Mask, str]]:
    images = collection.read_part(part, ["image", "uri", "error"]).to_pylist()
    found = mask_set.read_part(part, ["mask"]).column("mask").to_pylist() if mask_set else [None] * len(images)
    usable = [row for row, image in enumerate(images) if not image["error"] and (mask_set is None or found[row])]
    order = keyed_rng(seed, item=part, purpose="inspect").permutation(len(usable))[: max(0, count)]
    tiles: list[tuple[Rgb, Mask, str]] = []
    for row in [usable[int(place)] for place in order]:
        rgb = decode_image(
            read_image_bytes(images[row]["image"], images[row]["uri"], collection.limits), collection.limits
        )
        data = found[row]
        mask = decode_mask(data) if data else np.zeros(rgb.shape[:2], np.uint8)
        shown = np.where(mask == 255, 255, np.minimum(mask, 1)).astype(np.uint8)
        tiles.append((rgb, shown, f"{float((shown == 1).mean()):.0%} of the picture" if mask_set else ""))
    return tiles


def _reasons(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter(str(row["error"]).split(":", 1)[0] for row in rows if row["error"])
