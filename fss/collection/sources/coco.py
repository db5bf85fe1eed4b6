"""Data sets in COCO's form: COCO 2014 and 2017, and what annotation tools export in its form.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. The layouts are those of
:mod:`fss.collection.sources.coco_layout`; ``--source.annotations FILE`` chooses another file. Category PNGs, as the
few-shot literature shares them, are read where they are there; JSON files need pycocotools.

A picture of the file belongs to the photograph that its ``file_name`` fits, whatever the folder, the separators, the
case or the machine that the name was written on. Class ids are 1 to 80 where all categories are COCO's, in the order of
their ids without gaps; otherwise, ids and names are those of the file. A category called background is no class, and
what is called void or ignored is ignored. Smaller objects are painted over larger ones, and crowds are ignored. A
faulty object is left out and counted by its reason. A photograph that the file lists without objects is all background;
one that the file does not list has no mask.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.coco_categories import CATEGORY_IDS, COCO_CLASSES, CocoClasses, find_classes
from fss.collection.sources.coco_file import CocoFile, CocoPicture, read_coco_file
from fss.collection.sources.coco_layout import EXPECTED, Subset, find_subsets, refuse_missing
from fss.collection.sources.coco_matching import match_pictures
from fss.collection.sources.coco_painting import encode_annotation, paint
from fss.collection.sources.pairing import LISTED
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, is_photograph, stem_and_suffix, walk
from fss.core.arrays import IGNORE
from fss.core.extras import require
from fss.core.printable import printable
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import decode_label_picture
from fss.images.labels import Index, LabelMask, read_labels
from fss.images.limits import DecodeLimits

__all__ = ["CATEGORY_IDS", "COCO_CLASSES", "list_items", "read_item"]

_PROBES = 16  # category PNGs that the listing opens
_COCO = CocoClasses(ids={}, names=dict(enumerate(COCO_CLASSES, start=1)))


def list_items(config: SourceConfig) -> Listing:
    """List the photographs of one subset, or of all.

    Raises:
        ValueError: photographs or annotations are missing (and where to get them), there are several annotation files
            to choose from, one is not in COCO's form, or no name in it fits a photograph.
    """
    tree = walk(config.path, config.link_roots)
    photographs = [path for path in tree.uris if is_photograph(path)]
    subsets, notes = find_subsets(tree, config)
    files = {subset.name: _read_file(subset.file) for subset in subsets if subset.file is not None}
    classes = find_classes(list(files.values())) if files else _COCO
    ignored, unmatched = Counter(tree.ignored), list[str]()
    notes += classes.notes
    warnings, mismatches = [*classes.warnings], list[str]()
    listed: dict[str, SourceItem] = {}
    for subset in subsets:
        file = files.pop(subset.name, None)  # frees its objects, which take gigabytes, one file after the other
        if file is None:
            items = _rendered(tree, photographs, subset)
        else:
            matches = match_pictures(file, photographs, subset.folder)
            if subset.name in EXPECTED and subset.folder is None and not matches.pictures:
                refuse_missing(tree, config, subset.name)
            items = [_item(tree, path, matches.pictures.get(path), classes) for path in matches.photographs]
            mismatches += [matches.mismatch] if matches.mismatch else []
            unmatched += matches.unmatched
            notes += file.notes
            notes += _empty(file, classes)
            warnings += [*file.warnings, *matches.warnings, *_crowds(file, classes)]
        if len(items) != EXPECTED.get(subset.name, len(items)):
            standard = EXPECTED[subset.name]
            notes.append(f"{len(items)} photographs in {subset.name}; the standard download has {standard}")
        for item in items:
            known = listed.get(item.relative_path)
            listed[item.relative_path] = item if known is None else _either(known, item)
    if mismatches and len(mismatches) == len(subsets):
        raise ValueError("; ".join(mismatches))
    ignored["annotated photographs that are missing"] += len(unmatched)
    ignored["photographs of other folders or file types"] += len(photographs) - len(listed)
    return Listing(
        items=sorted(listed.values(), key=lambda item: stem_and_suffix(item.relative_path)[0]),
        labelled=True,
        classes=dict(classes.names),
        ignored=dict(+ignored),
        unmatched=tuple(map(printable, unmatched[:LISTED])),
        notes=tuple(notes),
        warnings=(*warnings, *mismatches),
        sizes=tree.sizes,
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph, and read or paint its mask."""
    return read_pair(item, limits, lambda: _read_mask(item, limits))


def _read_mask(item: SourceItem, limits: DecodeLimits) -> LabelMask:
    if item.annotation is not None:
        try:
            return paint(json.loads(item.annotation), limits)
        except RecursionError as error:
            raise DecodeError("bad-outline", "an outline is nested too deeply") from error
    assert item.mask_uri is not None
    meaning = Index(class_ids=frozenset(range(1, len(COCO_CLASSES) + 1)))
    return read_labels(read_bytes(item.mask_uri, limits), meaning, limits)


def _read_file(uri: str) -> CocoFile:
    require("coco", what="a JSON file of COCO")
    return read_coco_file(uri)


def _rendered(tree: Tree, photographs: Iterable[str], subset: Subset) -> list[SourceItem]:
    """Return the photographs of a subset with their category PNGs."""
    prefix = f"{subset.folder}/" if subset.folder else ""
    inside = [path for path in photographs if path.startswith(prefix)]
    names = {path: stem_and_suffix(path)[0].removeprefix(prefix) for path in inside}
    items = [
        SourceItem(relative_path=path, uri=tree.uris[path], mask_uri=tree.uris.get(f"{subset.masks}/{name}.png"))
        for path, name in names.items()
    ]
    error = _other_ids([item.mask_uri for item in items if item.mask_uri is not None])
    return items if error is None else [replace(item, mask_error=item.mask_uri and error) for item in items]


def _other_ids(uris: Sequence[str]) -> str | None:
    """Return the reason to refuse all category PNGs if one of a few has an id above 80; most ids prove nothing."""
    limits, last = DecodeLimits(), len(COCO_CLASSES)
    for uri in uris[:: -(-len(uris) // _PROBES) or 1]:
        try:
            values = decode_label_picture(read_bytes(uri, limits), limits).values
        except DecodeError:
            continue
        others = [] if values is None else [int(value) for value in np.unique(values) if last < value < IGNORE]
        if others:
            name = printable(uri.rsplit("/", 1)[-1])
            return (
                f"category-ids: the value {others[0]} in {name} is above {last}, so the masks "
                f"hold other ids than 1 to {last}, COCO's categories without gaps; give the JSON file with "
                "--source.annotations FILE"
            )
    return None


def _crowds(file: CocoFile, classes: CocoClasses) -> list[str]:
    """Return a warning if a file of other classes than COCO's has crowds, since CVAT marks single masks as such."""
    crowds = [crowd for picture in file.pictures for _, crowd, _ in picture.objects]
    if not any(crowds) or classes.names == _COCO.names:
        return []
    return [
        f"{file.uri}: {sum(crowds)} of {len(crowds)} objects are crowds (iscrowd 1), so their pixels are ignored; CVAT "
        "writes single masks so: set iscrowd to 0 if they are"
    ]


def _empty(file: CocoFile, classes: CocoClasses) -> list[str]:
    """Return a note on pictures without objects, which an export may list before anybody annotates them."""
    empty = [picture for picture in file.pictures if not (picture.objects or picture.left_out or picture.error)]
    if not empty or classes.names == _COCO.names:
        return []
    count = f"{len(empty)} of {len(file.pictures)}"
    return [f"{file.uri}: {count} pictures have no object, so their masks are all background"]


def _item(tree: Tree, path: str, picture: CocoPicture | None, classes: CocoClasses) -> SourceItem:
    """Return a photograph with its annotation, or with the reason why there is none."""
    annotation = error = None
    if picture is not None and picture.error is not None:
        error = picture.error
    elif picture is not None:
        objects = [
            (*classes.id_and_crowd(category, crowd), segmentation) for category, crowd, segmentation in picture.objects
        ]
        try:
            annotation = encode_annotation(picture.height, picture.width, objects, picture.left_out)
        except RecursionError:
            error = "bad-outline: an outline is nested too deeply"
    return SourceItem(relative_path=path, uri=tree.uris[path], annotation=annotation, mask_error=error)


def _either(one: SourceItem, other: SourceItem) -> SourceItem:
    """Return the item of a photograph that two subsets have."""
    if other.annotation is None and other.mask_uri is None and other.mask_error is None:
        return one
    if one.annotation is None and one.mask_uri is None and one.mask_error is None:
        return other
    error = "ambiguous-name: two subsets have annotations of the photograph; choose one with --source.subset NAME"
    return SourceItem(relative_path=one.relative_path, uri=one.uri, mask_error=error)
