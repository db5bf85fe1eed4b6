"""What every source of photographs has in common: its settings, its listing, its items."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from fss.core.arrays import Mask
from fss.core.config import config_hash

BINARY_CLASS = 1  # class id of the foreground where a folder of binary masks names no classes


@dataclass(frozen=True, kw_only=True)
class SourceItem:
    """One photograph of a source, before it is opened."""

    relative_path: str
    """Path below the source, with forward slashes; identity and order come from it."""
    uri: str
    """Where to read it."""
    mask_uri: str | None = None
    """Where to read its mask."""
    class_id: int | None = None
    """Class of the foreground of its binary mask."""
    annotation: str | None = None
    """Its mask as the source describes it in a common file (COCO: JSON of outlines); None where masks are files."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Everything a source offers, without having opened a single file."""

    items: list[SourceItem]
    """Sorted by relative path."""
    labelled: bool = False
    """Whether there are masks at all."""
    classes: dict[int, str] = field(default_factory=dict)
    """Class names by id."""
    class_splits: dict[str, list[int]] = field(default_factory=dict)
    """Class ids by split."""
    ignored: dict[str, int] = field(default_factory=dict)
    """How many files were left out, by reason."""
    notes: tuple[str, ...] = ()
    """What differs from the standard download, and where to get what is missing."""

    def head(self, limit: int | None) -> "Listing":
        """Return the listing cut to its first ``limit`` items."""
        return self if limit is None else dataclasses.replace(self, items=self.items[:limit])

    def hash(self) -> str:
        """Return a hash of items and classes."""
        items: list[Any] = [
            [
                ascii(item.relative_path),
                ascii(item.mask_uri),
                item.class_id,
                *([item.annotation] * bool(item.annotation)),
            ]
            for item in self.items
        ]  # ascii: a file name need not be valid Unicode
        return config_hash(items, self.classes, self.class_splits)


@dataclass(frozen=True, kw_only=True)
class RawItem:
    """What was read of an item: encoded picture and index mask, or why not."""

    data: bytes | None = None
    """Encoded picture, not yet decoded."""
    error: str | None = None
    """Why there is no picture."""
    mask: Mask | None = None
    """Index mask, uint8 [H, W]."""
    class_ids: tuple[int, ...] = ()
    """``class_ids[v - 1]`` is the class of mask value v."""
    mask_error: str | None = None
    """Why there is no mask."""
