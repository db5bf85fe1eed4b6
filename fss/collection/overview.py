"""Summaries of a collection for people: counts, parts, mask sets and their provenance."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fss.collection.collection import Collection
from fss.collection.index import Sample
from fss.collection.mask_set import TRUTH, MaskSet
from fss.collection.part_io import read_image_bytes
from fss.collection.schema import error_reason
from fss.collection.sources.base import BINARY_CLASS
from fss.core.arrays import Rgb
from fss.core.rng import keyed_rng
from fss.images.decode import decode_image
from fss.images.mask_codec import decode_mask

SEARCHED_PARTS = 64  # parts whose rows are compared for a sheet of labels, so that large mask sets take seconds as well


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
    pictures: dict[int, int]
    """Number of masks that show a class, by class id."""
    config_hash: str
    """Hash of the configuration that produced the masks."""
    provenance: dict[str, Any]
    """Origin of the masks."""
    acceptances: dict[str, int]
    """Number of accepted masks by acceptance."""


def summarize_images(collection: Collection) -> ImageOverview:
    """Summarise the photographs of a collection without decoding any."""
    names = collection.part_names()
    tables = collection.parts.tables(names, ["height", "width", "format", "error"])
    rows = [row for _, table in tables for row in table.to_pylist()]
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
    rows = [row for _, table in mask_set.parts.tables(finished, ["classes", "error"]) for row in table.to_pylist()]
    return MaskOverview(
        name=mask_set.name,
        parts=len(finished),
        masks=sum(row["error"] is None for row in rows),
        without=_reasons(rows),
        pictures=dict(Counter(entry["id"] for row in rows for entry in row["classes"] or () if entry["pixels"])),
        config_hash=mask_set.config_hash,
        provenance=mask_set.provenance,
        acceptances={name: len(mask_set.read_acceptance(name).accepted) for name in mask_set.acceptance_names()},
    )


def sample_images(collection: Collection, *, count: int, seed: int) -> Iterator[Rgb]:
    """Yield randomly chosen photographs, uint8 [H, W, 3], from parts that are chosen at random."""
    names = collection.part_names()
    order = keyed_rng(seed, item=len(names), purpose="inspect").permutation(len(names))
    remaining, rows_per_part = count, -(-count // max(1, len(names)))
    for part in [names[int(index)] for index in order]:
        errors = collection.read_part(part, ["error"]).column("error").to_pylist()
        usable = [row for row, error in enumerate(errors) if not error]
        chosen = keyed_rng(seed, item=part, purpose="inspect").permutation(len(usable))[: min(rows_per_part, remaining)]
        remaining -= len(chosen)
        for sample in _read_rows(collection, None, part, [usable[int(index)] for index in chosen]):
            yield sample.rgb
        if not remaining:
            return


def sample_labels(mask_set: MaskSet, *, count: int, seed: int) -> Iterator[Sample]:
    """Yield images with their masks that together show as many classes as possible, from as many parts as possible.

    Args:
        mask_set: mask set to read.
        count: largest number of images.
        seed: seed of the choice among images that show as many new classes.
    """
    names = mask_set.ordered_parts()
    order = keyed_rng(seed, item=len(names), purpose="labels").permutation(len(names))[:SEARCHED_PARTS]
    rows = []
    for part in [names[int(index)] for index in order]:
        table = mask_set.read_part(part, ["classes", "error"]).to_pylist()
        for row in keyed_rng(seed, item=part, purpose="labels").permutation(len(table)).tolist():
            if not table[row]["error"]:
                shown = {entry["id"] for entry in table[row]["classes"] or () if entry["pixels"]}
                rows.append((part, row, shown))
    chosen: dict[str, list[int]] = {}
    seen: set[int] = set()
    for _ in range(min(count, len(rows))):
        best = max(range(len(rows)), key=lambda i: (len(rows[i][2] - seen), -len(chosen.get(rows[i][0], ())), -i))
        part, row, shown = rows.pop(best)
        seen |= shown
        chosen.setdefault(part, []).append(row)
    for part, part_rows in sorted(chosen.items()):
        yield from _read_rows(mask_set.collection, mask_set, part, sorted(part_rows))


def class_names(mask_set: MaskSet, class_ids: Iterable[int]) -> dict[int, str]:
    """Return class names by id for masks of these classes.

    Class 1 alone is the object of estimators, and not the collection's class 1.
    """
    if mask_set.name != TRUTH and set(class_ids) <= {BINARY_CLASS}:
        return {BINARY_CLASS: "object"}
    return mask_set.collection.classes


def _read_rows(collection: Collection, mask_set: MaskSet | None, part: str, rows: Sequence[int]) -> Iterator[Sample]:
    """Decode some rows of a part, one at a time."""
    images = collection.read_part(part, ["image_id", "image", "uri"]).take(rows).to_pylist()
    masks = mask_set.read_part(part, ["mask", "classes"]).take(rows).to_pylist() if mask_set else [{}] * len(rows)
    for image, row in zip(images, masks, strict=True):
        data = read_image_bytes(image["image"], image["uri"], collection.limits, image_id=image["image_id"])
        yield Sample(
            image_id=image["image_id"],
            rgb=decode_image(data, collection.limits),
            mask=decode_mask(row["mask"]) if row else None,
            classes=tuple(entry["id"] for entry in row.get("classes") or ()),
        )


def _reasons(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter(error_reason(row["error"]) for row in rows if row["error"])
