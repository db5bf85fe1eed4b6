"""COCO 2014, from the annotations' JSON or from rendered category PNGs.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Standard layout:

    {train2014,val2014}/<name>.jpg
    annotations/instances_{train2014,val2014}.json    the standard download; needs pycocotools
    annotations/{train2014,val2014}/<name>.png        rendered categories, as the few-shot literature shares them

The PNGs are read where they are there. Class ids are 1 to 80, the categories in the order of their ids without gaps.
From the JSON, smaller objects are painted over larger ones, and crowds are ignored.
"""

import json
from collections import Counter
from typing import Any

import numpy as np

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, stem_and_suffix, walk
from fss.core import storage
from fss.core.arrays import IGNORE, Mask
from fss.images.decode_errors import DecodeError
from fss.images.labels import Index, LabelMask, class_map_labels, read_labels
from fss.images.limits import DecodeLimits

COCO_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
CATEGORY_IDS = tuple(sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))
"""COCO's own category ids, which have gaps: ``CATEGORY_IDS[c - 1]`` is class c."""
SUBSETS = ("train2014", "val2014")
EXPECTED = {"train2014": 82_783, "val2014": 40_504}
_PAGE = "https://cocodataset.org/#download"


def list_items(config: SourceConfig) -> Listing:
    """List the photographs of one subset, or of both.

    Raises:
        ValueError: photographs or annotations are missing (and where to get them), or an unknown subset.
    """
    subset = config.subset or "all"
    if subset not in (*SUBSETS, "all"):
        raise ValueError(f"COCO 2014 has the subsets all, {', '.join(SUBSETS)}; got {subset!r}")
    tree = walk(config.path, config.link_roots)
    items: list[SourceItem] = []
    notes: list[str] = []
    ignored = Counter(tree.ignored)
    for name in SUBSETS if subset == "all" else (subset,):
        listed = _list_subset(tree, name, config.path, ignored)
        if len(listed) != EXPECTED[name]:
            notes.append(f"{len(listed)} photographs in {name}; the standard download has {EXPECTED[name]}")
        items += listed
    classes = dict(enumerate(COCO_CLASSES, start=1))
    return Listing(items=items, labelled=True, classes=classes, ignored=dict(+ignored), notes=tuple(notes))


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph, and read or render its mask."""
    return read_pair(item, limits, lambda: _read_mask(item, limits))


def render(annotation: dict[str, Any]) -> Mask:
    """Render the objects of a photograph as class ids, uint8 ``[H, W]``: 0 is background, 255 are crowds.

    Smaller objects cover larger ones, and all single objects cover crowds.

    Args:
        annotation: ``height`` and ``width`` in pixels, and ``objects``: each ``[class id, crowd, segmentation]`` with
            COCO's polygons or run lengths.
    """
    from pycocotools import mask as coco_mask

    height, width = annotation["height"], annotation["width"]
    layers = []
    for class_id, crowd, segmentation in annotation["objects"]:
        if isinstance(segmentation, list):
            code = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            code = coco_mask.frPyObjects(segmentation, height, width)
        else:
            code = segmentation
        layers.append((not crowd, -int(coco_mask.area(code)), class_id, code))
    painted = np.zeros((height, width), dtype=np.uint8)
    for single, _, class_id, code in sorted(layers, key=lambda layer: layer[:3]):
        painted[coco_mask.decode(code).astype(bool)] = class_id if single else IGNORE
    return painted


def _read_mask(item: SourceItem, limits: DecodeLimits) -> LabelMask:
    if item.annotation is not None:
        try:
            painted = render(json.loads(item.annotation))
            mask, class_ids = class_map_labels(painted, background=0, void=(IGNORE,))
            return LabelMask(mask=mask, class_ids=class_ids)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise DecodeError("bad-annotation", f"the objects cannot be painted: {error}") from error
    assert item.mask_uri is not None
    meaning = Index(class_ids=frozenset(range(1, len(COCO_CLASSES) + 1)))
    return read_labels(read_bytes(item.mask_uri, limits), meaning, limits)


def _list_subset(tree: Tree, subset: str, path: str, ignored: Counter[str]) -> list[SourceItem]:
    photographs = {
        stem_and_suffix(name)[0].removeprefix(f"{subset}/"): name
        for name in tree.uris
        if name.startswith(f"{subset}/") and name.lower().endswith((".jpg", ".jpeg"))
    }
    if not photographs:
        raise ValueError(f"{path} has no photographs {subset}/*.jpg: get {subset}.zip from {_PAGE}")
    if tree.has_folder(f"annotations/{subset}"):
        masks = {name: tree.uris.get(f"annotations/{subset}/{name}.png") for name in photographs}
        return [
            SourceItem(relative_path=relative, uri=tree.uris[relative], mask_uri=masks[name])
            for name, relative in sorted(photographs.items())
        ]
    source = f"annotations/instances_{subset}.json"
    if source not in tree.uris:
        raise ValueError(
            f"{path} has neither {source} nor the folder annotations/{subset}/ of category PNGs: "
            f"get annotations_trainval2014.zip from {_PAGE}"
        )
    annotations = _annotations(tree.uris[source])
    ignored["annotated photographs that are missing"] += len(annotations.keys() - photographs.keys())
    return [
        SourceItem(relative_path=relative, uri=tree.uris[relative], annotation=annotations.get(name))
        for name, relative in sorted(photographs.items())
    ]


def _annotations(uri: str) -> dict[str, str]:
    """Return each photograph's objects as JSON, by the photograph's name without suffix.

    Raises:
        ValueError: pycocotools is missing, or the file is no instance annotation of COCO.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise ValueError("reading COCO's JSON needs pycocotools: pip install pycocotools") from error
    try:
        content = json.loads(storage.read_bytes(uri))
        objects: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
        for one in content["annotations"]:
            class_id = CATEGORY_IDS.index(one["category_id"]) + 1
            objects[one["image_id"]].append([class_id, int(one.get("iscrowd", 0)), one["segmentation"]])
        return {
            stem_and_suffix(image["file_name"])[0]: json.dumps(
                {"height": image["height"], "width": image["width"], "objects": objects[image["id"]]},
                separators=(",", ":"),
            )
            for image in content["images"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{uri} is no instance annotation file of COCO 2014: {error!r}; get it from {_PAGE}"
        ) from error
