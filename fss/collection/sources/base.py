"""What every source of photographs has in common: its settings, its listing, its items."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from fss.core.arrays import Mask
from fss.core.config import config_hash, to_dict

BINARY_CLASS = 1  # class id of the foreground where a folder of binary masks names no classes


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where photographs come from, and what their masks mean."""

    kind: Literal["folder", "fss1000", "voc", "coco", "cityscapes", "sample"] = "folder"
    """folder: photographs at any depth, or images/ beside masks/. fss1000: <class>/<n>.jpg with <class>/<n>.png.
    voc, coco, cityscapes: the standard downloads' layouts. sample: pictures painted by the library."""
    path: str = ""
    """Local folder or s3:// URI; not for sample."""
    masks: Literal["auto", "none", "binary", "index"] = "auto"
    """Of a folder: auto reads masks/ as binary where it exists; index: a pixel's value is its class id."""
    background: int | None = 0
    """The value of an index mask that stands for no class; None where every value is a class."""
    void: tuple[int, ...] = (255,)
    """Values of an index mask to ignore."""
    class_names: tuple[str, ...] = ()
    """Names of the values 0, 1, 2, ... of an index mask."""
    splits: str | None = None
    """Of fss1000: JSON file {"train": [class names], ...}; by default splits.json in the folder, where there is one."""
    subset: str = ""
    """Of voc: all, train, val or trainaug. Of coco: all, train2014 or val2014. Of cityscapes: all, train or val."""
    sample: Literal["unlabelled", "labelled"] = "unlabelled"
    """Of sample: one object a picture for training, or two or three with ground truth for evaluation."""
    count: int = 256
    """Of sample: pictures to paint."""
    seed: int = 0
    """Of sample: which pictures."""

    def identity(self) -> str:
        """Return a hash of the settings that give a picture and its mask; equal for a source that only grew."""
        return config_hash({key: value for key, value in to_dict(self).items() if key not in ("count", "splits")})


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

    def first(self, limit: int | None) -> "Listing":
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
