"""Damaged annotation files in COCO's form, and what must hold for each of them."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fss.collection import ingest_local
from fss.collection.schema import mask_table
from fss.collection.sources import SourceConfig, list_items, read_item
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import mask_row
from tests.helpers.coco_documents import SQUARE, an_object, document, photograph, picture, write_document
from tests.helpers.fuzzing import damage

LIMITS = DecodeLimits(max_pixels=1_000_000, max_side=4000)
NAMES = ("a.jpg", "sub/b.jpg", "c.jpg")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 48, 64, 255, 65_535, 65_536, 10**9, -(10**18), 10**30, 0.5, 64.0, -1e9, 1e308),
    *(float("nan"), float("inf"), -float("inf"), "", "1", "a.jpg", "../a.jpg", "A.JPG", "x\\c.jpg", "\ud800", "PP`"),
    *([], [[]], [[1, 2]], [1, 2, 3, 4, 5, 6], {}, {"size": [48, 64]}, {"counts": [3072]}, SQUARE, "ignore", "\0"),
    {"size": [48, 64], "counts": [1, 2**32, 3]},
)


def seeds() -> list[dict[str, Any]]:
    """Good annotation files: polygons, run lengths of both kinds, crowds, and names with folders."""
    from pycocotools import mask as coco_mask

    runs = {"size": [48, 64], "counts": [100, 50, 30, 200, 48 * 64 - 380]}
    packed = {"size": [48, 64], "counts": coco_mask.frPyObjects(runs, 48, 64)["counts"].decode()}
    pictures = [picture(), picture("sub/b.jpg", 2), picture("x\\C.JPG", 3)]
    objects = [
        *(an_object(), an_object([*SQUARE, [40, 5, 60.5, 5, 60.5, 20.25]], 1, 2, id=2), an_object(runs, 2, 2, id=3)),
        *(an_object(packed, 2, 1, id=4), an_object(runs, 3, 1, id=5, iscrowd=1), an_object(SQUARE[0], 3, 2, id=6)),
    ]
    people = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    tools = [{"id": 1, "name": "fork", "supercategory": "tools"}, {"id": 2, "name": "mug"}, {"id": 0, "name": "tools"}]
    return [document(objects, pictures, people), document(objects[::-1], pictures, tools)]


def mutate(content: Any, rng: np.random.Generator) -> bytes:
    """Change values of an annotation file a few times over, and sometimes its bytes."""
    content = copy.deepcopy(content)
    for _ in range(int(rng.integers(1, 6))):
        content = change_value(content, rng)
    data = json.dumps(content).encode()
    return damage(data, rng) if rng.random() < 0.25 else data


def write_photographs(root: Path) -> None:
    """Write the photographs of the seeds."""
    for name in NAMES:
        photograph(root / "val2014" / name)


def check(root: Path, data: bytes, *, whole: bool = False) -> str:
    """Read an annotation file of the photographs below ``root``; anything but a ValueError gets out.

    Args:
        root: data set whose photographs exist.
        data: annotation file.
        whole: ingest into a collection as well.

    Returns:
        ``refused``, or how many masks there are.
    """
    write_document(root, data)
    config = SourceConfig(kind="coco", path=str(root), subset="val2014")
    try:
        listing = list_items(config)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, error
        return "refused"
    assert sorted(item.relative_path for item in listing.items) == [f"val2014/{name}" for name in sorted(NAMES)]
    assert listing.hash() and "".join([*listing.notes, *listing.warnings, *listing.unmatched]).isprintable()
    json.dumps(listing.classes).encode()
    rows = []
    for number, item in enumerate(listing.items):
        raw = read_item(item, config, LIMITS)
        assert (raw.label is None) != (raw.mask_error is None)
        if raw.label is None:
            assert raw.mask_error and "\n" not in raw.mask_error and len(raw.mask_error) < 1000, raw.mask_error
        else:
            assert raw.label.mask.size <= LIMITS.max_pixels and 0 not in raw.label.class_ids
            rows.append(mask_row(f"row {number}", raw.label.mask, raw.label.class_ids))
    mask_table(rows)
    if whole and rows:
        with tempfile.TemporaryDirectory() as folder:
            collection = ingest_local(config, f"{folder}/collection", limits=LIMITS)
            assert len(collection.part_names()) == 1
    return f"{len(rows)} masks"


def change_value(content: Any, rng: np.random.Generator) -> Any:
    """Return the content with one value replaced, removed, doubled or moved."""
    places = list(_places(content))
    if not places:
        return content
    container, key = places[int(rng.integers(0, len(places)))]
    how = int(rng.integers(0, 10))
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif how == 2:
        other, other_key = places[int(rng.integers(0, len(places)))]
        container[key] = copy.deepcopy(other[other_key])
    elif how == 3 and isinstance(container[key], int | float) and abs(container[key]) < 1e300:
        container[key] = container[key] * float(rng.choice([-1, 0.5, 2, 1000, 1e7]))
    elif how == 4:
        container[key] = [container[key]]
    elif how == 5 and isinstance(container[key], int | float):
        container[key] = str(container[key])
    elif how == 6 and isinstance(container[key], str) and container[key]:
        start = int(rng.integers(0, len(container[key])))
        container[key] = container[key][:start] + chr(int(rng.integers(32, 128))) + container[key][start + 1 :]
    else:
        container[key] = copy.deepcopy(_VALUES[int(rng.integers(0, len(_VALUES)))])
    return content


def _places(content: Any) -> Any:
    """Yield every value inside of lists and dictionaries as its container and key."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _places(content[key])
