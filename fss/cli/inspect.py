"""Describe a collection: photographs, mask sets and their origin. Optionally draw a contact sheet or verify the files.

    fss inspect photos
    fss inspect s3://bucket/photos --sheet sheet.png --mask-set saliency
    fss inspect downloaded --verify

The command changes nothing in a collection. With --verify it reads every file; exit code 3 says that some are damaged.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from annotated_types import Ge

from fss.core import storage
from fss.core.config import settings, to_dict
from fss.core.exit_codes import PARTIAL, SUCCESS

if TYPE_CHECKING:
    from fss.collection import Collection, MaskSet
    from fss.core.arrays import Rgb


@settings
class Config:
    """The arguments of ``fss inspect``."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    sheet: str | None = None
    """File or s3:// URI of a contact sheet to write (PNG): photographs beside their masks, with the classes. None: no
    sheet."""
    mask_set: str | None = None
    """Masks to draw on the sheet. None: the photographs alone, unless the collection has a single mask set."""
    count: Annotated[int, Ge(1)] = 24
    """Photographs on the sheet."""
    seed: int = 0
    """Seed of the choice of photographs on the sheet."""
    verify: bool = False
    """Read the whole collection and check hashes, sizes, order and classes."""


def run(config: Config) -> int:
    """Print a description, draw the contact sheet, verify the files, and return the exit code.

    Raises:
        ValueError: the collection or the mask set does not exist, or a mask set is given without a sheet.
    """
    from fss.cli._make_masks import print_table
    from fss.collection import Collection
    from fss.collection.verify import find_problems
    from fss.visualize import save_png

    if config.mask_set is not None and config.sheet is None:
        raise ValueError(f"--mask-set {config.mask_set} is drawn on a sheet; give --sheet FILE, or leave it out")
    if config.sheet is not None:
        storage.check_file_writable(config.sheet)
    collection = Collection.open(config.collection)
    sets = [collection.mask_set(name) for name in collection.mask_set_names()]
    print_table(_describe(collection, sets))
    if config.sheet is not None:
        chosen = collection.mask_set(config.mask_set) if config.mask_set else sets[0] if len(sets) == 1 else None
        save_png(_sheet(collection, chosen, config), config.sheet)
        print_table(iter([("contact sheet", config.sheet)]))
    if config.verify:
        errors = list(find_problems(collection))
        print_table(
            (("wrong", text) for text in errors) if errors else iter([("verified", "everything is what it says")])
        )
        return PARTIAL if errors else SUCCESS
    return SUCCESS


def _sheet(collection: "Collection", mask_set: "MaskSet | None", config: Config) -> "Rgb":
    """Draw labelled images with their classes, or photographs alone."""
    from fss.collection import overview
    from fss.visualize import contact_sheet, label_sheet

    if mask_set is None:
        photographs = overview.sample_images(collection, count=config.count, seed=config.seed)
        return contact_sheet(
            [(rgb, np.zeros(rgb.shape[:2], np.uint8), "") for rgb in photographs], title=collection.name
        )
    pictures = overview.summarize_masks(mask_set).pictures
    samples = overview.sample_labels(mask_set, count=config.count, seed=config.seed)
    names = overview.class_names(mask_set, pictures)
    return label_sheet(samples, names, pictures, title=f"{collection.name}, mask set {mask_set.name}")


def _describe(collection: "Collection", sets: "list[MaskSet]") -> Iterator[tuple[str, object]]:
    from fss.collection import overview

    images = overview.summarize_images(collection)
    yield "collection", f"{collection.name} at {collection.uri}"
    for source in collection.metadata["sources"]:
        yield "source", source if "source" not in source else _plain(_given(source["source"]))
    usable = images.images - sum(images.unusable.values())
    yield "photographs", f"{images.images:,} in {images.parts:,} parts of {collection.part_size}, {usable:,} usable"
    if images.unusable:
        yield "not usable", _counted(images.unusable)
    yield "formats", f"{_counted(images.formats)}; half are at least {images.sizes[1]} x {images.sizes[0]} pixels"
    yield "stored", f"{images.stored_bytes / 1e6:,.1f} MB"
    if collection.classes:
        splits = ", ".join(f"{name}: {len(ids)}" for name, ids in collection.class_splits.items())
        yield "classes", f"{len(collection.classes)}" + (f" ({splits})" if splits else "")
    for mask_set in sets:
        yield from _masks(mask_set, images.parts)


def _masks(mask_set: "MaskSet", parts: int) -> Iterator[tuple[str, object]]:
    from fss.collection import overview

    masks = overview.summarize_masks(mask_set)
    state = "complete" if masks.parts == parts else f"{masks.parts} of {parts} parts"
    without = f"; without: {_counted(masks.without)}" if masks.without else ""
    classes = f"{len(masks.pictures)} class{'' if len(masks.pictures) == 1 else 'es'}"
    yield f"masks {masks.name}", f"{state}, {masks.masks:,} masks of {classes}{without}"
    yield "  made by", f"{_plain(masks.provenance)} (configuration {masks.config_hash})"
    for name, count in masks.acceptances.items():
        yield f"  acceptance {name}", f"{count:,} masks"


def _given(source: dict[str, object]) -> dict[str, object]:
    """Return kind and path of a source, and its settings that are not the defaults."""
    from fss.collection.sources import SourceConfig

    defaults = to_dict(SourceConfig())
    return {name: value for name, value in source.items() if name in ("kind", "path") or value != defaults.get(name)}


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def _plain(values: dict[str, object]) -> str:
    """Return the settings that have a value, in one line."""
    settings = {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}
    return ", ".join(
        f"{name} {json.dumps(value) if isinstance(value, dict | list) else value}" for name, value in settings.items()
    )
