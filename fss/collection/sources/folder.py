"""A folder of photographs at any depth, with or without masks: ``images/`` beside ``masks/``, and similar layouts.

The binary masks of ECSSD and the class-index masks of CamVid have the second layout. Masks of colours need a class list
(:mod:`fss.collection.sources.class_lists`), and index masks may have one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from fss.collection.config import SourceConfig
from fss.collection.sources.base import BINARY_CLASS, Listing, RawItem, SourceItem
from fss.collection.sources.mask_layout import IMAGES, MASKS, MaskLayout, find_layout
from fss.collection.sources.mask_likeness import refuse_masks
from fss.collection.sources.mask_meaning import MaskMeaning, declare_classes
from fss.collection.sources.pairing import LISTED, pair_masks
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, is_photograph, walk
from fss.core.printable import printable
from fss.images.labels import Binary, Index, LabelMask, Meaning, read_labels
from fss.images.limits import DecodeLimits

LABELLED = ("binary", "index", "colors")


def list_items(config: SourceConfig) -> Listing:
    """List a folder.

    Raises:
        ValueError: the folder is missing, it has no masks although the settings require them, or its masks would be
            taken as photographs.
    """
    tree = walk(config.path, config.link_roots)
    pictures = [path for path in tree.uris if is_photograph(path)]
    ignored = Counter(tree.ignored)
    ignored["other files"] += len(tree.uris) - len(pictures)
    layout = find_layout(pictures, config)
    if (layout is None or not layout.masks) and config.meaning in LABELLED:
        raise ValueError(
            f"masks={config.meaning} needs masks, but {config.path} has no folders {IMAGES}/ and {MASKS}/ or other "
            "usual names; give --source.images FOLDER --source.mask-folder FOLDER, or --source.mask-suffix TEXT"
        )
    if layout is None:
        if config.masks == "auto":
            refuse_masks(tree, pictures)
        return _photographs(tree, pictures, ignored, notes=_outline_notes(tree) if config.masks == "auto" else ())
    ignored["other files"] += len(pictures) - len(layout.photographs) - len(layout.masks)
    if config.masks == "none" or not layout.masks:
        ignored["masks"] += len(layout.masks)
        return _photographs(tree, layout.photographs, ignored)
    return declare_classes(pair_listing(tree, layout, ignored, config), tree, config)


def pair_listing(tree: Tree, layout: MaskLayout, ignored: Mapping[str, int], config: SourceConfig) -> Listing:
    """Return the listing of photographs and masks whose meaning the settings declare, without a class list."""
    pairs = pair_masks(tree, layout.photographs, layout.masks)
    return Listing(
        items=pairs.items,
        labelled=True,
        classes=dict(enumerate(config.class_names)) if config.meaning == "index" else {BINARY_CLASS: "object"},
        ignored=dict(Counter(ignored) + Counter({"masks without a photograph": len(pairs.unmatched)})),
        unmatched=tuple(map(printable, pairs.unmatched[:LISTED])),
        notes=(layout.note,) if layout.note else (),
        warnings=pairs.warnings,
        sizes=tree.sizes,
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph and its mask; failures are reported in the result."""
    return read_pair(item, limits, lambda: read_mask(item, config, limits))


def read_mask(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> LabelMask:
    """Read the mask of an item.

    Raises:
        ValueError: the mask cannot be read, or its kind differs from the settings.
    """
    assert item.mask_uri is not None
    return interpret_mask(read_bytes(item.mask_uri, limits), item, config, limits)


def interpret_mask(data: bytes, item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> LabelMask:
    """Return the mask that an encoded picture shows.

    Raises:
        DecodeError: the picture cannot be decoded, or its kind differs from the settings.
    """
    if item.annotation is not None:
        return MaskMeaning.from_json(item.annotation).read(data, limits)
    meaning: Meaning
    if config.meaning == "index":
        meaning = Index(background=config.background, void=config.void)
    else:
        class_id = BINARY_CLASS if item.class_id is None else item.class_id
        meaning = Binary(class_id=class_id, any_value=config.masks == "binary")
    return read_labels(data, meaning, limits)


def _outline_notes(tree: Tree) -> tuple[str, ...]:
    """Return a note if there are files that may hold the outlines of other layouts, which are not read."""
    files = [path for path in tree.uris if path.lower().endswith(".json")]
    if not files:
        return ()
    return (
        f"the photographs are read without masks; if JSON files such as {printable(files[0])} hold their outlines, "
        "give --source.kind coco (one file for many photographs) or labelme (one beside each)",
    )


def _photographs(tree: Tree, paths: Iterable[str], ignored: Counter[str], notes: tuple[str, ...] = ()) -> Listing:
    return Listing(
        items=[SourceItem(relative_path=path, uri=tree.uris[path]) for path in paths],
        ignored=dict(+ignored),
        notes=notes,
        sizes=tree.sizes,
    )
