"""Sources of photographs. Every source lists its items without opening photographs, and reads items independently."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType

from fss.collection.config import SHARDS, SourceConfig
from fss.collection.sources import cityscapes, coco, folder, fss1000, labelme, parquet, synthetic, voc, webdataset
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.links import link_notes
from fss.collection.sources.walk import OTHER_FORMATS
from fss.images.limits import DecodeLimits

__all__ = ["Listing", "RawItem", "SourceConfig", "SourceItem", "item_reader", "list_items", "read_item"]

_SOURCES: dict[str, ModuleType] = {
    "folder": folder,
    "fss1000": fss1000,
    "voc": voc,
    "coco": coco,
    "cityscapes": cityscapes,
    "labelme": labelme,
    "webdataset": webdataset,
    "parquet": parquet,
    "sample": synthetic,
}


def list_items(config: SourceConfig) -> Listing:
    """List a source.

    Raises:
        ValueError: the source is missing or has no photographs.
    """
    if config.kind != "sample" and not config.path:
        raise ValueError(f"a source of kind {config.kind} needs a path: a local folder or s3://bucket/folder")
    listing: Listing = _SOURCES[config.kind].list_items(config)
    notes = link_notes(listing.ignored, config.path)
    if count := listing.ignored.get(OTHER_FORMATS, 0):
        notes.append(
            f"{count} pictures of {config.path} have a format that is not read, such as camera raw or JPEG XL; convert "
            "them to JPEG, PNG or TIFF first"
        )
    if not listing.items:
        others = ", ".join(f"{count} {reason}" for reason, count in listing.ignored.items()) or "nothing else"
        remedy = "; ".join(notes) or "check the folder and the file names"
        raise ValueError(f"there are no photographs in {config.path} ({others}); {remedy}")
    return replace(listing, notes=(*listing.notes, *notes))


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read one item; an unusable photograph or mask is reported in the result.

    Raises:
        OSError: the object store does not answer.
    """
    result: RawItem = _SOURCES[config.kind].read_item(item, config, limits)
    return result


def item_reader(
    items: Sequence[SourceItem], config: SourceConfig, limits: DecodeLimits
) -> Callable[[SourceItem], RawItem]:
    """Return a function that reads one of these items, from any thread; it reports what is unusable in its result.

    The bytes of items in shards are read here, all at once: neighbours share a request.

    Raises:
        OSError: the object store does not answer, here or in the function.
    """
    source = _SOURCES[config.kind]
    if config.kind in SHARDS:
        reader: Callable[[SourceItem], RawItem] = source.item_reader(items, config, limits)
        return reader
    return partial(source.read_item, config=config, limits=limits)
