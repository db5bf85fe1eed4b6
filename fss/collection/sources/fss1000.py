"""FSS-1000's layout: ``<class>/<n>.jpg`` with the binary mask ``<class>/<n>.png``.

Li et al., "FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation", CVPR 2020. An optional ``splits.json`` names the
classes of each split.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing
from fss.collection.sources.folder import read_item
from fss.collection.sources.names import normalized
from fss.collection.sources.pairing import LISTED, pair_masks
from fss.collection.sources.walk import is_photograph, stem_and_suffix, walk
from fss.core import storage
from fss.core.printable import printable

__all__ = ["list_items", "read_item"]

MASK_SUFFIX = ".png"
CLASSES, IMAGES = 1000, 10  # of the published data set: https://github.com/HKUSTCV/FSS-1000
SPLITS = "splits.json"


def list_items(config: SourceConfig) -> Listing:
    """List the photographs of all classes; class ids are 1, 2, ... in the order of the class names.

    Raises:
        ValueError: no class folders, or a split that names a class that is not there or is in another split too.
    """
    tree = walk(config.path, config.link_roots)
    ignored = Counter(tree.ignored)
    photographs, masks = {}, {}
    for path in tree.uris:
        stem, suffix = stem_and_suffix(path)
        if path.count("/") != 1 or not is_photograph(path):
            ignored["other files"] += path != SPLITS
        elif suffix == MASK_SUFFIX:
            masks[path] = normalized(stem)
        else:
            photographs[path] = normalized(stem)
    class_names = {path: normalized(path.split("/")[0]) for path in photographs}
    names = sorted(set(class_names.values()))
    if not names:
        raise ValueError(f"{config.path} has no class folders with photographs, <class>/<n>.jpg and <class>/<n>.png")
    ids = {name: number for number, name in enumerate(names, start=1)}
    class_ids = {path: ids[name] for path, name in class_names.items()}
    pairs = pair_masks(tree, photographs, masks, class_ids)
    ignored["masks without a photograph"] += len(pairs.unmatched)
    return Listing(
        items=pairs.items,
        labelled=True,
        classes={number: printable(name) for name, number in ids.items()},
        class_splits=_class_splits(config, SPLITS in tree.uris, ids),
        ignored=dict(+ignored),
        unmatched=tuple(map(printable, pairs.unmatched[:LISTED])),
        notes=_notes(names, photographs),
        warnings=pairs.warnings,
        sizes=tree.sizes,
    )


def _notes(names: Sequence[str], photographs: Iterable[str]) -> tuple[str, ...]:
    """Say how a folder differs from the published data set; folders of one's own in the same layout do."""
    sizes = Counter(path.split("/")[0] for path in photographs)
    other = sum(size != IMAGES for size in sizes.values())
    if len(names) == CLASSES and not other:
        return ()
    return (f"{len(names)} classes, {other} not with {IMAGES} images; FSS-1000 has {CLASSES} with {IMAGES} each",)


def _class_splits(config: SourceConfig, present: bool, ids: Mapping[str, int]) -> dict[str, list[int]]:
    uri = config.splits or (storage.join(config.path, SPLITS) if present else None)
    if uri is None:
        return {}
    try:
        named = json.loads(storage.read_bytes(uri).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the splits file {uri} cannot be read: {error}") from error
    if not isinstance(named, dict) or not all(isinstance(names, list) for names in named.values()):
        raise ValueError(f'{uri} must hold {{"train": [class names], "test": [class names], ...}}')
    named = {split: [normalized(str(name)) for name in names] for split, names in named.items()}
    owner: dict[str, str] = {}
    for split, names in named.items():
        for name in names:
            if name not in ids:
                raise ValueError(f"{uri}: split {split!r} names the class {name!r}, which has no folder")
            if name in owner:
                raise ValueError(f"{uri}: class {name!r} is in the splits {owner[name]!r} and {split!r}; keep one")
            owner[name] = split
    return {split: sorted(ids[name] for name in names) for split, names in named.items()}
