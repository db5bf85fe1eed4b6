"""Look at a collection: photographs, mask sets, where they come from, a contact sheet.

fss inspect photos
fss inspect s3://bucket/photos --sheet sheet.png --mask-set saliency
    fss inspect downloaded --verify
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from fss.cli._make_masks import lines
from fss.collection import Collection, MaskSet, overview
from fss.collection.verify import find_problems
from fss.core.exit_codes import PARTIAL, SUCCESS
from fss.visualize import contact_sheet, save_png


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``fss inspect`` is asked."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    sheet: Path | None = None
    """Write a contact sheet here (PNG)."""
    mask_set: str | None = None
    """Masks to draw on the sheet; None: the photographs alone, unless the collection has a single mask set."""
    count: int = 24
    """Photographs on the sheet."""
    seed: int = 0
    """Draws them."""
    verify: bool = False
    """Read everything and hold it against itself: hashes, sizes, order, classes."""


def run(config: Config) -> int:
    """Print what there is, and draw.

    Raises:
        ValueError: no such collection or mask set.
    """
    collection = Collection.open(config.collection)
    sets = [collection.mask_set(name) for name in collection.mask_set_names()]
    lines(_said(collection, sets))
    if config.sheet is not None:
        chosen = collection.mask_set(config.mask_set) if config.mask_set else sets[0] if len(sets) == 1 else None
        title = collection.name + (f", mask set {chosen.name}" if chosen else "")
        tiles = overview.sample_tiles(collection, chosen, count=config.count, seed=config.seed)
        save_png(contact_sheet(tiles, title=title), config.sheet)
        lines(iter([("contact sheet", config.sheet)]))
    if config.verify:
        found = list(find_problems(collection))
        lines((("wrong", text) for text in found) if found else iter([("verified", "everything is what it says")]))
        return PARTIAL if found else SUCCESS
    return SUCCESS


def _said(collection: Collection, sets: list[MaskSet]) -> Iterator[tuple[str, object]]:
    found = overview.summarize_images(collection)
    yield "collection", f"{collection.name} at {collection.uri}"
    for source in collection.metadata["sources"]:
        yield "source", source if "source" not in source else _plain(source["source"])
    usable = found.images - sum(found.unusable.values())
    yield "photographs", f"{found.images:,} in {found.parts:,} parts of {collection.part_size}, {usable:,} usable"
    if found.unusable:
        yield "not usable", _counted(found.unusable)
    yield "formats", f"{_counted(found.formats)}; half are at least {found.sizes[1]} x {found.sizes[0]} pixels"
    yield "stored", f"{found.stored_bytes / 1e6:,.1f} MB"
    if collection.classes:
        splits = ", ".join(f"{name}: {len(ids)}" for name, ids in collection.class_splits.items())
        yield "classes", f"{len(collection.classes)}" + (f" ({splits})" if splits else "")
    for mask_set in sets:
        yield from _masks(mask_set, found.parts)


def _masks(mask_set: MaskSet, parts: int) -> Iterator[tuple[str, object]]:
    made = overview.summarize_masks(mask_set)
    state = "complete" if made.parts == parts else f"{made.parts} of {parts} parts"
    without = f"; without: {_counted(made.without)}" if made.without else ""
    classes = f"{made.classes} class{'' if made.classes == 1 else 'es'}"
    yield f"masks {made.name}", f"{state}, {made.masks:,} masks of {classes}{without}"
    yield "  made by", f"{_plain(made.provenance)} (configuration {made.config_hash})"
    for name, count in made.acceptances.items():
        yield f"  acceptance {name}", f"{count:,} masks"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def _plain(values: dict[str, object]) -> str:
    """Name the settings that say something, in one line."""
    told = {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}
    return ", ".join(
        f"{name} {json.dumps(value) if isinstance(value, dict | list) else value}" for name, value in told.items()
    )
