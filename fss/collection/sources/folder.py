"""A folder of photographs at any depth, or ``images/`` beside ``masks/`` with equal names.

The binary masks of ECSSD and the class-index masks of CamVid have the second layout.
"""

from collections import Counter

from fss.collection.config import SourceConfig
from fss.collection.sources.base import BINARY_CLASS, Listing, RawItem, SourceItem
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, is_photograph, stem_and_suffix, walk
from fss.images.labels import Binary, Index, LabelMask, Meaning, read_labels
from fss.images.limits import DecodeLimits

IMAGES, MASKS = "images", "masks"


def list_items(config: SourceConfig) -> Listing:
    """List a folder.

    Raises:
        ValueError: the folder is missing, or it has no masks although the settings require them.
    """
    tree = walk(config.path)
    paired = tree.has_folder(IMAGES) and tree.has_folder(MASKS)
    if config.masks in ("binary", "index") and not paired:
        raise ValueError(f"masks={config.masks} needs the folders {IMAGES}/ and {MASKS}/ in {config.path}")
    return _pairs(tree, config) if paired and config.masks != "none" else _photographs(tree, paired)


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph and its mask; failures are reported in the result."""
    return read_pair(item, limits, lambda: read_mask(item, config, limits))


def read_mask(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> LabelMask:
    """Read the mask of an item.

    Raises:
        ValueError: the mask cannot be read, or its kind differs from the settings.
    """
    assert item.mask_uri is not None
    meaning: Meaning
    if config.masks == "index":
        meaning = Index(background=config.background, void=config.void)
    else:
        class_id = BINARY_CLASS if item.class_id is None else item.class_id
        meaning = Binary(class_id=class_id, any_value=config.masks == "binary")
    return read_labels(read_bytes(item.mask_uri, limits), meaning, limits)


def _photographs(tree: Tree, paired: bool) -> Listing:
    ignored = Counter(tree.ignored)
    items = []
    for path, uri in tree.uris.items():
        if paired and not path.startswith(f"{IMAGES}/"):
            ignored["files outside images/"] += 1
        elif is_photograph(path):
            items.append(SourceItem(relative_path=path, uri=uri))
        else:
            ignored["other files"] += 1
    return Listing(items=items, ignored=dict(+ignored))


def _pairs(tree: Tree, config: SourceConfig) -> Listing:
    masks = {
        stem_and_suffix(path)[0].removeprefix(f"{MASKS}/"): uri
        for path, uri in tree.uris.items()
        if path.startswith(f"{MASKS}/") and is_photograph(path)
    }
    photographs = _photographs(Tree({p: u for p, u in tree.uris.items() if not p.startswith(f"{MASKS}/")}), True)
    items = []
    for item in photographs.items:
        stem = stem_and_suffix(item.relative_path)[0].removeprefix(f"{IMAGES}/")
        items.append(SourceItem(relative_path=item.relative_path, uri=item.uri, mask_uri=masks.get(stem)))
    ignored = Counter(tree.ignored) + Counter(photographs.ignored)
    ignored["masks without a photograph"] += len(masks) - len({item.mask_uri for item in items} - {None})
    names = dict(enumerate(config.class_names)) if config.masks == "index" else {BINARY_CLASS: "object"}
    return Listing(items=items, labelled=True, classes=names, ignored=dict(+ignored))
