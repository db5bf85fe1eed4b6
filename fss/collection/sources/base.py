"""Types shared by all sources of photographs: items, listings and raw items."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fss.core.config import config_hash
from fss.images.labels import LabelMask

BINARY_CLASS = 1  # class id of the foreground of binary masks without class names


@dataclass(frozen=True, kw_only=True)
class SourceItem:
    """One photograph of a source, before it is opened."""

    relative_path: str
    """Path relative to the source, with forward slashes; it determines id and order."""
    uri: str
    """URI of the photograph."""
    mask_uri: str | None = None
    """URI of the mask; None if there is no mask file."""
    mask_error: str | None = None
    """Reason why the mask cannot be told from the names of the files, ``"reason: text"``."""
    class_id: int | None = None
    """Class id of the foreground of a binary mask."""
    annotation: str | None = None
    """What a source knows about the mask besides its file, as JSON: outlines, or the meaning of its values."""
    shard: str | None = None
    """URI of the tar or Parquet file that contains photograph and mask; None if each is a file."""
    mask_shard: str | None = None
    """URI of the tar file that contains the mask, if it is another one."""
    image_offset: int | None = None
    """First byte of the photograph in a tar file."""
    image_size: int | None = None
    """Size of the photograph in bytes, if it lies in a shard; in a Parquet file, the mean of its row group."""
    mask_offset: int | None = None
    """First byte of the mask in a tar file."""
    mask_size: int | None = None
    """Size of the mask in a tar file, in bytes."""
    row: int | None = None
    """Row of photograph and mask in a Parquet file."""
    row_group: int | None = None
    """Row group of that row; a part takes all of its rows, since they are read together."""

    @property
    def embedded(self) -> bool:
        """Whether the photograph lies within the file of its mask."""
        return self.uri == self.mask_uri

    @property
    def extent(self) -> list[int | None]:
        """Where photograph and mask lie in a tar file; empty for other items."""
        ranges = [self.image_offset, self.image_size, self.mask_offset, self.mask_size]
        return ranges if self.image_offset is not None else []


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All items of a source, listed without opening a photograph."""

    items: list[SourceItem]
    """Items sorted by relative path; those of shards by shard and position."""
    random: bool = False
    """Whether the order of the items is random already, so that an ingest keeps it."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the files in bytes by URI, as far as the listing tells them."""
    labelled: bool = False
    """Whether the source has masks."""
    classes: dict[int, str] = field(default_factory=dict)
    """Class names by id."""
    class_splits: dict[str, list[int]] = field(default_factory=dict)
    """Class ids by split."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Number of files left out, by reason."""
    unmatched: tuple[str, ...] = ()
    """First names of masks, or of annotated photographs, that belong to no photograph of the source."""
    notes: tuple[str, ...] = ()
    """Differences from the standard download, and where to get what is missing."""
    warnings: tuple[str, ...] = ()
    """What looks wrong in the files, such as masks that photographs share, and what to do about it."""
    shared_annotation: str | None = None
    """Annotation that all masks share; None if each has its own, or none has any."""

    def head(self, limit: int | None) -> "Listing":
        """Return the listing with its first ``limit`` items; None keeps all."""
        return self if limit is None else dataclasses.replace(self, items=self.items[:limit])

    def hash(self) -> str:
        """Return a hash of items and classes, 16 hex digits."""
        shared = self.shared_annotation
        items: list[Any] = [
            [
                ascii(item.relative_path),
                ascii(item.mask_uri),
                item.class_id,
                *(extra for extra in (item.annotation, item.mask_error) if extra and extra != shared),
                *item.extent,
            ]
            for item in self.items
        ]  # ascii, since a file name need not be valid Unicode
        return config_hash(items, self.classes, self.class_splits, *([shared] if shared else []))


@dataclass(frozen=True, kw_only=True)
class RawItem:
    """An item after reading: encoded image and mask, or the reasons why they are missing."""

    data: bytes | None = None
    """Encoded image."""
    error: str | None = None
    """Reason why there is no image."""
    label: LabelMask | None = None
    """Mask and its classes."""
    mask_error: str | None = None
    """Reason why there is no mask."""
