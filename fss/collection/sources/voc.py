"""PASCAL VOC 2012, with the additional masks of SBD where they are there.

Everingham et al., "The PASCAL Visual Object Classes Challenge 2012"; Hariharan et al., "Semantic Contours from Inverse
Detectors", ICCV 2011. Standard layout, in the folder itself or below others, such as ``VOCdevkit/VOC2012/``:

    JPEGImages/<name>.jpg
    SegmentationClassAug/<name>.png           VOC's and SBD's masks together; without it:
    SegmentationClass/<name>.png              VOC's own masks
    benchmark_RELEASE/dataset/cls/<name>.mat  SBD's download, in the folder or beside it, for what VOC has no mask of
    ImageSets/Segmentation/{train,val,trainval}.txt  names; needed for a subset only

Classes are 1 to 20 in VOC's (alphabetical) order; boundary pixels (255) are ignored.

Tools such as CVAT export the same layout with classes of their own in ``labelmap.txt``, or labelme in
``class_names.txt``, in that folder, in that of the masks or in the one above. Its names and colours then count instead
of VOC's. A mask whose palette has the colours of the list in its order is read by its numbers, which means the same;
other palettes and RGB masks are read by colour. Grey masks hold positions in the list, unless the list has their grey
values as colours or has no background.

A list of ``ImageSets`` has one name per line, with or without folder and suffix. A second column with -1 leaves the
photograph out, and further columns are ignored.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.class_lists import read_class_list
from fss.collection.sources.mask_meaning import (
    MaskMeaning,
    class_names,
    color_meaning,
    given_class_list,
    index_meaning,
    warnings_of,
    with_meaning,
)
from fss.collection.sources.name_lists import check_names, read_name_list
from fss.collection.sources.names import normalized
from fss.collection.sources.pairing import LISTED, pair_masks
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.sbd import SUFFIX as SBD_SUFFIX
from fss.collection.sources.sbd import decode_sbd
from fss.collection.sources.walk import Tree, is_photograph, stem_and_suffix, walk
from fss.core.arrays import IGNORE
from fss.core.printable import printable
from fss.images.label_samples import LabelPicture
from fss.images.labels import LabelMask
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
CLASS_FILES = ("labelmap.txt", "class_names.txt")
_VOC_NAME = re.compile(r"\d{4}_\d{6}")  # of VOC's photographs
_VOC_MEANING = MaskMeaning(by="index", background=0, void=(IGNORE,), class_ids=tuple(range(1, len(VOC_CLASSES) + 1)))
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
    photographs = _by_path(tree, prefix + IMAGES)
    pairs = pair_masks(tree, photographs, masks)
    unmatched = [printable(path) for path in pairs.unmatched]
    if subset == "all":
        items = [item for item in pairs.items if item.mask_uri or item.mask_error]
    elif subset == "trainaug":
        val = _listed(tree, prefix, subset, photographs)
        items = [item for item in pairs.items if item.mask_uri or item.mask_error]
        items = [item for item in items if photographs[item.relative_path] not in val]
        unmatched = [printable(path) for path in pairs.unmatched if masks[path] not in val]
    else:
        listed = _listed(tree, prefix, subset, photographs)
        items = [item for item in pairs.items if photographs[item.relative_path] in listed]
        unmatched = sorted(listed - set(photographs.values()))
    ignored = Counter(tree.ignored)
    ignored["photographs without a mask"] += len(photographs) - len(items)
    ignored[f"masks without a photograph in {IMAGES}"] += len(unmatched)
    listing = Listing(
        items=sorted(items, key=lambda item: photographs[item.relative_path]),
        labelled=True,
        classes=dict(enumerate(VOC_CLASSES, start=1)),
        ignored=dict(+ignored),
        unmatched=tuple(unmatched[:LISTED]),
        notes=_notes(folder, subset, len(items)),
        warnings=pairs.warnings,
        sizes=tree.sizes,
    )
    return _with_classes(listing, tree, prefix, config)


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph and its mask of class ids, or of the colours of a class list."""
    return read_pair(item, limits, lambda: _read_mask(item, limits))


def _read_mask(item: SourceItem, limits: DecodeLimits) -> LabelMask:
    assert item.mask_uri is not None
    data = read_bytes(item.mask_uri, limits)
    meaning = _VOC_MEANING if item.annotation is None else MaskMeaning.from_json(item.annotation)
    if item.mask_uri.endswith(SBD_SUFFIX):
        return meaning.interpret(LabelPicture(values=decode_sbd(data, limits)))
    return meaning.read(data, limits)


def _with_classes(listing: Listing, tree: Tree, prefix: str, config: SourceConfig) -> Listing:
    """Return the listing with the classes of the settings or of a labelmap.txt, where there are some."""
    classes = given_class_list(tree, config)
    notes = listing.notes
    if classes is None:
        above = prefix.removesuffix("VOC2012/").removesuffix("VOCdevkit/")
        folders = (prefix, f"{prefix}{PLAIN}/", above)
        path = next((folder + name for folder in folders for name in CLASS_FILES if folder + name in tree.uris), None)
        if path is None:
            return replace(listing, warnings=(*listing.warnings, *_guessed_classes(listing)))
        try:
            classes = replace(read_class_list(tree.uris[path]), file=path)
        except ValueError as error:
            raise ValueError(f"{error}; --source.colors FILE gives another class list") from error
        notes = (*notes, f"the classes are those of {path}; --source.colors FILE gives others")
    if config.colors is not None:
        meaning = color_meaning(classes, config, by="colors")
    elif config.classes is None and classes.has_colors:
        meaning = color_meaning(classes, config, by="either")
    else:
        meaning = replace(index_meaning(classes, config), class_ids=tuple(one.class_id for one in classes.entries))
    warnings = (*listing.warnings, *warnings_of(classes, meaning))
    return with_meaning(
        replace(listing, classes=class_names(classes, meaning), notes=notes, warnings=warnings), meaning
    )


def _guessed_classes(listing: Listing) -> tuple[str, ...]:
    """Return a warning if the photographs are not VOC's, so that its classes are a guess."""
    names = [stem_and_suffix(item.relative_path)[0].rpartition("/")[2] for item in listing.items]
    if any(map(_VOC_NAME.fullmatch, names)):
        return ()
    return (
        "the photographs do not have the names of PASCAL VOC, but the classes are taken as its 20; give "
        "--source.classes FILE with the names of the ids if they are others",
    )


def _masks(tree: Tree, prefix: str) -> tuple[str, dict[str, str]]:
    """Return the kind of masks (VOC's alone, or with SBD's) and the name of every mask, by its path."""
    if tree.has_folder(prefix + AUGMENTED):
        return AUGMENTED, _by_path(tree, prefix + AUGMENTED)
    plain = _by_path(tree, prefix + PLAIN)
    for folder in (prefix + SBD, SBD):
        if tree.has_folder(folder):
            present = set(plain.values())
            sbd = {path: name for path, name in _by_path(tree, folder).items() if name not in present}
            return AUGMENTED, sbd | plain
    return PLAIN, plain


def _find_root(tree: Tree, path: str) -> tuple[Tree, str]:
    below = {
        f"/{name}".partition(f"/{IMAGES}/")[0].removeprefix("/") for name in tree.uris if f"/{IMAGES}/" in f"/{name}"
    }
    prefixes = [f"{folder}/" if folder else "" for folder in sorted(below)]
    if "" not in prefixes and len(prefixes) > 1:
        listed = ", ".join(prefix.rstrip("/") for prefix in prefixes[:LISTED])
        raise ValueError(f"{path} has several folders with {IMAGES}: {listed}; give one of them")
    if not prefixes:
        raise ValueError(f"{path} has no folder {IMAGES} (nor VOC2012/{IMAGES}): get VOC 2012 from {_VOC_PAGE}")
    if any(tree.has_folder(prefixes[0] + folder) for folder in (AUGMENTED, PLAIN)):
        return tree, prefixes[0]
    raise ValueError(f"{path} has {IMAGES} but neither {AUGMENTED} nor {PLAIN}: get {_VOC_PAGE}; {_AUG_HINT}")


def _by_path(tree: Tree, folder: str) -> dict[str, str]:
    """Return the names of the pictures and SBD masks below a folder, without folder and suffix, by their paths."""
    return {
        path: normalized(stem_and_suffix(path)[0].removeprefix(f"{folder}/"))
        for path in tree.uris
        if path.startswith(f"{folder}/") and (is_photograph(path) or path.endswith(SBD_SUFFIX))
    }


def _listed(tree: Tree, prefix: str, subset: str, photographs: Mapping[str, str]) -> set[str]:
    """Return the names in the lists of a subset; trainaug is every mask that is not in the validation list."""
    lists = {"trainaug": ["val"], "trainval": ["trainval"]}.get(subset, [subset])
    if subset == "trainval" and f"{prefix}{LISTS}/trainval.txt" not in tree.uris:
        lists = ["train", "val"]
    names: set[str] = set()
    for name in lists:
        path = f"{prefix}{LISTS}/{name}.txt"
        if path not in tree.uris:
            raise ValueError(f"subset {subset} needs the list {LISTS}/{name}.txt: it is part of {_VOC_PAGE}")
        names |= read_name_list(tree.uris[path], photographs.values())
    if subset != "trainaug":
        check_names(" and ".join(f"{LISTS}/{name}.txt" for name in lists), names, photographs.values())
    return names


def _notes(folder: str, subset: str, count: int) -> tuple[str, ...]:
    expected = EXPECTED[folder, subset]
    notes = []
    if count != expected:
        notes.append(f"{count} photographs with a mask; the standard download has {expected} ({folder}, {subset})")
    if folder == PLAIN:
        notes.append(f"no folder {AUGMENTED}, so only VOC's own masks are used; {_AUG_HINT}")
    return tuple(notes)
