"""The fine annotations of Cityscapes.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. Standard layout:

    leftImg8bit/<subset>/<city>/<name>_leftImg8bit.png
    gtFine/<subset>/<city>/<name>_gtFine_labelTrainIds.png    or, without it, <name>_gtFine_labelIds.png

Class ids are the 19 train ids, 0 to 18, in both cases; every other label is ignored. There is no background.

Copies exist whose files hold the other kind of ids. The values of a mask may prove it: 19 to 33 are label ids only, and
255 besides 0 to 18 is a train id only. Such a mask gets a reason. The listing opens a few masks of each kind, and where
one proves the other kind, all masks of the kind get the reason, since most values below 19 prove nothing.
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, walk
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, decode_label_picture
from fss.images.labels import Index, LabelMask, interpret_labels
from fss.images.limits import DecodeLimits

CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
TRAIN_ID_OF_LABEL = dict(zip((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33), range(19), strict=True))
"""Train id by label id; every other label id is void."""
VOID = 255
SUBSETS = ("all", "train", "val")
EXPECTED = {"all": 3_475, "train": 2_975, "val": 500}
IMAGES, MASKS = "leftImg8bit", "gtFine"
_TRAIN_IDS, _LABEL_IDS = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"
_PROBES = 16  # masks of each kind that the listing opens; a mask of a street nearly always proves its ids
_LARGEST_LABEL = 33
_PAGE = "https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)"


def list_items(config: SourceConfig) -> Listing:
    """List the photographs of the training and validation cities.

    Raises:
        ValueError: a folder of the layout is missing (and where to get it), or an unknown subset.
    """
    subset = config.subset or "all"
    if subset not in SUBSETS:
        raise ValueError(f"Cityscapes has the subsets {', '.join(SUBSETS)} (test has no public masks); got {subset!r}")
    tree = walk(config.path, config.link_roots)
    for folder in (IMAGES, MASKS):
        if not tree.has_folder(folder):
            raise ValueError(f"{config.path} has no folder {folder}: get it from {_PAGE}")
    subsets = ("train", "val") if subset == "all" else (subset,)
    prefixes = tuple(f"{IMAGES}/{name}/" for name in subsets)
    photographs = [path for path in tree.uris if path.startswith(prefixes) and path.endswith(f"_{IMAGES}.png")]
    items = [SourceItem(relative_path=path, uri=tree.uris[path], mask_uri=_mask(tree, path)) for path in photographs]
    items = _refuse_other_ids(_refuse_other_ids(items, _TRAIN_IDS), _LABEL_IDS)
    ignored = Counter(tree.ignored)
    ignored["photographs of other subsets"] += sum(
        path.startswith(f"{IMAGES}/") and not path.startswith(prefixes) for path in tree.uris
    )
    notes = [] if len(items) == EXPECTED[subset] else [f"{len(items)} photographs; the download has {EXPECTED[subset]}"]
    unmasked = sum(item.mask_uri is None for item in items)
    if items and unmasked == len(items):
        raise ValueError(
            f"{config.path}/{MASKS} has neither *{_TRAIN_IDS} nor *{_LABEL_IDS}, and other masks of Cityscapes, such "
            f"as *_gtFine_color.png, are not read: get them from {_PAGE}"
        )
    if unmasked:
        notes.append(f"{unmasked} photographs have neither *{_TRAIN_IDS} nor *{_LABEL_IDS} in {MASKS}: see {_PAGE}")
    classes = dict(enumerate(CITYSCAPES_CLASSES))
    return Listing(
        items=items,
        labelled=True,
        classes=classes,
        ignored=dict(+ignored),
        notes=tuple(notes),
        sizes=tree.sizes,
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph and its mask; label ids become train ids."""
    return read_pair(item, limits, lambda: _read_mask(item, limits))


def _read_mask(item: SourceItem, limits: DecodeLimits) -> LabelMask:
    assert item.mask_uri is not None
    picture = decode_label_picture(read_bytes(item.mask_uri, limits), limits)
    _check_ids(picture, item.mask_uri)
    train_ids = {number: number for number in range(len(CITYSCAPES_CLASSES))}
    table = TRAIN_ID_OF_LABEL if item.mask_uri.endswith(_LABEL_IDS) else train_ids
    # Every other label is void. -1 (licence plate) is stored as 255 in 8 bits and as 65535 in 16.
    translation = {value: table.get(value, VOID) for value in (*range(-1, _LARGEST_LABEL + 1), VOID, 65535)}
    allowed = frozenset(range(len(CITYSCAPES_CLASSES)))
    meaning = Index(background=None, void=(VOID,), class_ids=allowed, translation=translation)
    return interpret_labels(picture, meaning)


def _check_ids(picture: LabelPicture, uri: str) -> None:
    """Refuse a mask whose values prove that it holds the other kind of ids than its name says.

    Raises:
        DecodeError: label ids in a file of train ids, or train ids in a file of label ids.
    """
    if picture.values is None:
        return
    values = [int(value) for value in np.unique(picture.values)]
    labels_only = [value for value in values if len(CITYSCAPES_CLASSES) <= value <= _LARGEST_LABEL]
    if uri.endswith(_TRAIN_IDS) and labels_only:
        raise DecodeError(
            "label-ids",
            f"the value {labels_only[0]} is a label id, but *{_TRAIN_IDS} should hold train ids (0 to 18, 255); name "
            f"the files *{_LABEL_IDS}, or make train ids with cityscapesScripts",
        )
    if uri.endswith(_LABEL_IDS) and VOID in values and not labels_only:
        raise DecodeError(
            "train-ids",
            f"the values 0 to 18 with 255 are train ids, but *{_LABEL_IDS} should hold label ids (0 to 33); name the "
            f"files *{_TRAIN_IDS}",
        )


def _refuse_other_ids(items: list[SourceItem], suffix: str) -> list[SourceItem]:
    """Give the masks of one kind a reason if one of a few of them proves that they hold the other kind of ids."""
    uris = [item.mask_uri for item in items if item.mask_uri is not None and item.mask_uri.endswith(suffix)]
    limits = DecodeLimits()
    for uri in uris[:: -(-len(uris) // _PROBES) or 1]:
        try:
            _check_ids(decode_label_picture(read_bytes(uri, limits), limits), uri)
        except DecodeError as error:
            if error.reason in ("label-ids", "train-ids"):
                refused = set(uris)
                text = f"{error} (seen in {uri.rsplit('/', 1)[-1]})"
                return [replace(item, mask_error=text) if item.mask_uri in refused else item for item in items]
    return items


def _mask(tree: Tree, photograph: str) -> str | None:
    stem = photograph.replace(f"{IMAGES}/", f"{MASKS}/", 1).removesuffix(f"_{IMAGES}.png")
    return tree.uris.get(stem + _TRAIN_IDS) or tree.uris.get(stem + _LABEL_IDS)
