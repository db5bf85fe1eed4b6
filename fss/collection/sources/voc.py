"""PASCAL VOC 2012, with the additional masks of SBD where they are there.

Everingham et al., "The PASCAL Visual Object Classes Challenge 2012"; Hariharan et al., "Semantic Contours from Inverse
Detectors", ICCV 2011. Standard layout, in the folder itself or below ``VOC2012/`` or ``VOCdevkit/VOC2012/``:

    JPEGImages/<name>.jpg
    SegmentationClassAug/<name>.png           VOC's and SBD's masks together; without it:
    SegmentationClass/<name>.png              VOC's own masks
    benchmark_RELEASE/dataset/cls/<name>.mat  SBD's download, in the folder or beside it, for what VOC has no mask of
    ImageSets/Segmentation/{train,val,trainval}.txt  names; needed for a subset only

Classes are 1 to 20 in VOC's (alphabetical) order; boundary pixels (255) are ignored.
"""

import io
from collections import Counter

import numpy as np

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, stem_and_suffix, walk
from fss.core import storage
from fss.core.arrays import Mask
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture
from fss.images.labels import Index, LabelMask, interpret_labels, read_labels
from fss.images.limits import DecodeLimits

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
SUBSETS = ("all", "train", "val", "trainval", "trainaug")
SBD = "benchmark_RELEASE/dataset/cls"
IMAGES, AUGMENTED, PLAIN, LISTS = "JPEGImages", "SegmentationClassAug", "SegmentationClass", "ImageSets/Segmentation"
EXPECTED = {
    (AUGMENTED, "all"): 12_031,
    (AUGMENTED, "trainaug"): 10_582,
    (PLAIN, "all"): 2_913,
    **{(folder, "train"): 1_464 for folder in (AUGMENTED, PLAIN)},
    **{(folder, "val"): 1_449 for folder in (AUGMENTED, PLAIN)},
    **{(folder, "trainval"): 2_913 for folder in (AUGMENTED, PLAIN)},
}
"""Masks of the standard download, by folder and subset."""
_VOC_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (VOCtrainval_11-May-2012.tar)"
_AUG_HINT = (
    "SegmentationClassAug comes with the published few-shot code (the HSNet authors' page links to it); SBD's own "
    f"download, unpacked to {SBD}, does as well: http://home.bharathh.info/pubs/codes/SBD/download.html"
)


def list_items(config: SourceConfig) -> Listing:
    """List the photographs that have a mask.

    Raises:
        ValueError: a folder or list of the layout is missing (and where to get it), or an unknown subset.
    """
    subset = config.subset or "all"
    if subset not in SUBSETS:
        raise ValueError(f"VOC has the subsets {', '.join(SUBSETS)}; got {subset!r}")
    tree, prefix = _find_root(walk(config.path, config.link_roots), config.path)
    folder, masks = _masks(tree, prefix)
    if subset == "trainaug" and folder != AUGMENTED:
        raise ValueError(f"subset trainaug needs the folder {AUGMENTED} in {config.path}; {_AUG_HINT}")
    photographs = _by_name(tree, prefix + IMAGES)
    names = _names(tree, prefix, subset, masks)
    missing = [name for name in names if name not in photographs]
    items = [
        SourceItem(relative_path=path, uri=tree.uris[path], mask_uri=tree.uris[masks[name]] if name in masks else None)
        for name, path in sorted(photographs.items())
        if name in names
    ]
    ignored = Counter(tree.ignored)
    ignored["photographs without a mask"] += len(photographs) - len(items)
    ignored[f"masks without a photograph in {IMAGES}"] += len(missing)
    return Listing(
        items=items,
        labelled=True,
        classes=dict(enumerate(VOC_CLASSES, start=1)),
        ignored=dict(+ignored),
        notes=_notes(folder, subset, len(items)),
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph and its mask of class ids."""
    return read_pair(item, limits, lambda: _read_mask(item, limits))


def _read_mask(item: SourceItem, limits: DecodeLimits) -> LabelMask:
    assert item.mask_uri is not None
    data = read_bytes(item.mask_uri, limits)
    meaning = Index(class_ids=frozenset(range(1, len(VOC_CLASSES) + 1)))
    if item.mask_uri.endswith(".mat"):
        return interpret_labels(LabelPicture(values=_decode_sbd(data)), meaning)
    return read_labels(data, meaning, limits)


def _decode_sbd(data: bytes) -> Mask:
    """Return the class ids in a .mat file of SBD, uint8 [H, W]."""
    from scipy.io import loadmat

    try:
        labels = loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
        return np.asarray(labels, np.uint8).reshape(labels.shape[0], labels.shape[1])
    except Exception as error:  # the reader raises many kinds; each says that this file is no mask
        raise DecodeError("bad-annotation", f"no GTcls.Segmentation of SBD in it: {error}") from error


def _masks(tree: Tree, prefix: str) -> tuple[str, dict[str, str]]:
    """Return the kind of masks (VOC's alone, or with SBD's) and the mask of every name."""
    if tree.has_folder(prefix + AUGMENTED):
        return AUGMENTED, _by_name(tree, prefix + AUGMENTED)
    plain = _by_name(tree, prefix + PLAIN)
    for folder in (prefix + SBD, SBD):
        if tree.has_folder(folder):
            return AUGMENTED, _by_name(tree, folder) | plain
    return PLAIN, plain


def _find_root(tree: Tree, path: str) -> tuple[Tree, str]:
    for prefix in ("", "VOC2012/", "VOCdevkit/VOC2012/"):
        if tree.has_folder(prefix + IMAGES):
            if any(tree.has_folder(prefix + folder) for folder in (AUGMENTED, PLAIN)):
                return tree, prefix
            raise ValueError(f"{path} has {IMAGES} but neither {AUGMENTED} nor {PLAIN}: get {_VOC_PAGE}; {_AUG_HINT}")
    raise ValueError(f"{path} has no folder {IMAGES} (nor VOC2012/{IMAGES}): get VOC 2012 from {_VOC_PAGE}")


def _by_name(tree: Tree, folder: str) -> dict[str, str]:
    """Return relative paths directly in a folder, by their names without suffix."""
    paths = [path for path in tree.uris if path.startswith(f"{folder}/")]
    return {stem_and_suffix(path)[0].removeprefix(f"{folder}/"): path for path in paths}


def _names(tree: Tree, prefix: str, subset: str, masks: dict[str, str]) -> set[str]:
    """Return the names of a subset; trainaug is every mask that is not in the official validation list."""
    if subset == "all":
        return set(masks)
    if subset == "trainaug":
        return set(masks) - _read_list(tree, prefix, subset, "val")
    if subset == "trainval" and f"{prefix}{LISTS}/trainval.txt" not in tree.uris:
        return _read_list(tree, prefix, subset, "train") | _read_list(tree, prefix, subset, "val")
    return _read_list(tree, prefix, subset, subset)


def _read_list(tree: Tree, prefix: str, subset: str, name: str) -> set[str]:
    path = f"{prefix}{LISTS}/{name}.txt"
    if path not in tree.uris:
        raise ValueError(f"subset {subset} needs the list {LISTS}/{name}.txt: it is part of {_VOC_PAGE}")
    return set(storage.read_bytes(tree.uris[path]).decode().split())


def _notes(folder: str, subset: str, count: int) -> tuple[str, ...]:
    expected = EXPECTED[folder, subset]
    notes = []
    if count != expected:
        notes.append(f"{count} photographs with a mask; the standard download has {expected} ({folder}, {subset})")
    if folder == PLAIN:
        notes.append(f"no folder {AUGMENTED}, so only VOC's own masks are used; {_AUG_HINT}")
    return tuple(notes)
