"""Small data sets in COCO's form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.dataset_layouts import write_bytes

HEIGHT, WIDTH = 48, 64
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
"""A polygon of 400 pixels."""


def photograph(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """Write a small photograph of a height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


def picture(name: Any = "a.jpg", number: Any = 1, **more: Any) -> dict[str, Any]:
    """Return a picture of an annotation file."""
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH} | more


def an_object(segmentation: Any = SQUARE, image: Any = 1, category: Any = 1, **more: Any) -> dict[str, Any]:
    """Return an object of an annotation file."""
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0} | more


def document(objects: Any = None, pictures: Any = None, categories: Any = None) -> dict[str, Any]:
    """Return an annotation file; by default one picture ``a.jpg`` with a person."""
    return {
        "images": [picture()] if pictures is None else pictures,
        "annotations": [an_object()] if objects is None else objects,
        "categories": [{"id": 1, "name": "person"}] if categories is None else categories,
    }


def write_document(root: Path, content: Any, file: str = "annotations/instances_val2014.json") -> None:
    """Write an annotation file."""
    write_bytes(root / file, content if isinstance(content, bytes) else json.dumps(content).encode())


def write_data_set(
    root: Path,
    content: Any,
    photographs: tuple[str, ...] = ("val2014/a.jpg",),
    file: str = "annotations/instances_val2014.json",
) -> Path:
    """Write photographs and an annotation file, and return the folder."""
    for name in photographs:
        photograph(root / name)
    write_document(root, content, file)
    return root
