"""COCO instances: https://cocodataset.org/#format-data."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from fss.collection.annotations.base import (
    AnnotatedImage,
    AnnotationFile,
    Shape,
    Write,
    fill_polygons,
    read_json,
    regions,
    set_size,
    string_or_none,
    unsized_note,
)
from fss.collection.image_names import ImageRoot
from fss.collection.mask_export import ExportedMask
from fss.collection.sources.coco_categories import IGNORE_CATEGORY, IGNORE_LABEL
from fss.collection.sources.coco_file import CROWD, entry_key
from fss.core.arrays import BoolArray
from fss.images.decode_errors import DecodeError
from fss.images.run_lengths import decode_columns, encode_columns


def write_coco(
    masks: Iterator[ExportedMask], labels: Mapping[int, str], root: ImageRoot, write: Write
) -> tuple[int, int]:
    """Write masks as COCO instances: one annotation per photograph and class, with uncompressed run lengths.

    Args:
        masks: masks to write.
        labels: label by class id, see :func:`class_labels`.
        root: folder that file names are relative to.
        write: receives the JSON piece by piece, so only the masks of one photograph are in memory.

    Returns:
        Number of photographs and number of annotations.
    """
    images: list[dict[str, Any]] = []
    number = 0
    used: set[int] = set()
    info = {"description": "masks exported by fss; file_name is relative to image_root", "image_root": root.uri}
    write(b'{"info": ' + json.dumps(info).encode() + b', "annotations": [')
    for exported in masks:
        height, width = exported.mask.shape
        image = {"id": len(images) + 1, "file_name": root.relative(exported.uri), "height": height, "width": width}
        images.append({**image, "image_id": exported.image_id})
        for class_id, region in regions(exported):
            number += 1
            category = IGNORE_CATEGORY if class_id is None else class_id
            used.add(category)
            row = {"id": number, "image_id": len(images), "category_id": category, "iscrowd": 0, **_annotation(region)}
            write((b",\n" if number > 1 else b"\n") + json.dumps(row).encode())
    names = {**labels, IGNORE_CATEGORY: IGNORE_LABEL}
    categories = [{"id": category, "name": names[category]} for category in sorted(used)]
    rest = json.dumps({"images": images, "categories": categories, "licenses": []})
    write(b"\n], " + rest[1:].encode() + b"\n")
    return len(images), number


def read_coco(uri: str) -> AnnotationFile:
    """Read COCO instances.

    Raises:
        ValueError: the file is no COCO JSON, or two categories share an id.
    """
    content = read_json(uri)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise ValueError(f"{uri} is no COCO JSON: it needs the lists images, annotations and categories")
    file = AnnotationFile()
    categories = _categories(uri, content.get("categories"))
    images = _images(content["images"], file)
    crowds = 0
    for number, row in enumerate(content["annotations"]):
        image = images.get(entry_key(row.get("image_id"))) if isinstance(row, dict) else None
        if image is None:
            file.problems.append(f"annotation {number}: it belongs to no image of the file")
            continue
        category, crowd = row.get("category_id"), row.get("iscrowd")
        label = categories.get(entry_key(category))
        if label is None:
            image.problems.append(f"annotation {number}: unknown-category: {category!r}")
            continue
        if isinstance(crowd, list | dict) or crowd not in CROWD:
            image.problems.append(f"annotation {number}: bad-iscrowd: {str(crowd)[:40]!r}; it must be 0 or 1")
            continue
        crowds += CROWD[crowd]
        decode = partial(_decode, row.get("segmentation"))
        image.shapes.append(Shape(label=label, category=int(category), crowd=CROWD[crowd] == 1, decode=decode))
    if crowds:
        file.notes.append(
            f"{crowds} of {len(content['annotations'])} objects are crowds (iscrowd 1), so their pixels are ignored; "
            "CVAT writes single masks so: set iscrowd to 0 if they are"
        )
    return file


def _annotation(region: BoolArray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": {"size": list(region.shape), "counts": encode_columns(region)},
        "area": int(region.sum()),
        "bbox": [int(value) for value in box],
    }


def _decode(segmentation: Any, height: int, width: int) -> BoolArray:
    if isinstance(segmentation, Mapping):
        return decode_columns(segmentation, height, width)
    if isinstance(segmentation, list) and segmentation:
        return fill_polygons(segmentation, height, width)
    raise DecodeError("no-segmentation", "the object has neither polygons nor run lengths")


def _categories(uri: str, rows: Any) -> dict[str | None, str]:
    """Return the names of the categories by their whole-numbered ids as text.

    Raises:
        ValueError: two categories share an id.
    """
    names: dict[str | None, str] = {}
    for row in rows if isinstance(rows, list) else ():
        key, name = (entry_key(row.get("id")), row.get("name")) if isinstance(row, dict) else (None, None)
        if key is None or not key.removeprefix("-").isdecimal() or not isinstance(name, str) or not name.strip():
            continue
        if names.setdefault(key, name) != name:
            raise ValueError(f"{uri} gives category {key} the names {names[key]!r} and {name!r}; keep one of them")
    return names


def _images(rows: list[Any], file: AnnotationFile) -> dict[str | None, AnnotatedImage]:
    """Return the photographs by their id in the file as text; those that share an id are problems."""
    ids = [entry_key(row.get("id")) if isinstance(row, dict) else None for row in rows]
    shared = {key for key, count in Counter(ids).items() if count > 1}
    images: dict[str | None, AnnotatedImage] = {}
    for number, (key, row) in enumerate(zip(ids, rows, strict=True)):
        if key is None or not isinstance(row.get("file_name"), str):
            file.problems.append(f"image {number}: it needs an id and a file_name")
        elif key in shared:
            file.problems.append(f"image {number} ({row['file_name']}): another image has the id {key!r}, too")
        else:
            image_id = string_or_none(row.get("image_id"))
            images[key] = AnnotatedImage(name=row["file_name"], image_id=image_id, small_on_top=True)
            set_size(images[key], row.get("height"), row.get("width"))
    file.images += images.values()
    file.notes += unsized_note(file.images)
    return images
