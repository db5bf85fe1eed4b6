"""Small street scenes: sky, road and a car, of which only some are labelled."""

from pathlib import Path

import numpy as np

from fss.collection import Collection
from fss.collection.schema import mask_table
from fss.core.rng import keyed_rng
from fss.images.mask_codec import from_class_map, mask_row
from fss.models.semantic.config import SemanticConfig
from tests.helpers.discs import Pixels, Row, image_row, png, write_rows

COLOURS = ((90, 140, 220), (90, 90, 90), (200, 40, 40))
CLASSES = {0: "sky", 1: "road", 5: "car"}
NETWORK = SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16)
"""The smallest network that there is."""


def scene(number: int) -> tuple[bytes, Pixels]:
    """Return PNG bytes and class numbers, uint8 [40, 56] in {0, 1, 2}."""
    rng = keyed_rng(0, item=number, purpose="test.scene")
    labels = np.zeros((40, 56), np.uint8)
    labels[int(rng.integers(15, 25)) :] = 1
    top, left = (int(value) for value in rng.integers((20, 5), (30, 40)))
    labels[top : top + 8, left : left + 12] = 2
    rgb = np.array(COLOURS, np.int16)[labels] + rng.integers(-30, 31, (40, 56, 3))
    return png(rgb.clip(0, 255).astype(np.uint8)), labels


def build(folder: Path, count: int, labelled: int, part_size: int = 4) -> Collection:
    """Write a collection of ``count`` scenes with two paths of one name each, the first ``labelled`` with a truth.

    The truth of the others says that there is no mask, as ingesting photographs without mask files does.
    """
    collection = Collection.create(str(folder), name="scenes", source="test", part_size=part_size, classes=CLASSES)
    truth = collection.create_mask_set("truth", config_hash="0" * 16, provenance={})
    ids = sorted(CLASSES)
    rows: list[Row] = []
    for number in range(count):
        data, labels = scene(number)
        row = image_row(data, f"{'left' if number % 2 else 'right'}/{number // 2}.png", *labels.shape)
        mask, numbers = from_class_map(labels, background=None)
        missing = mask_row(row["image_id"], None, error="missing-mask: there is no mask of that name")
        answer = mask_row(row["image_id"], mask, [ids[n] for n in numbers]) if number < labelled else missing
        rows.append((row, answer))
    write_rows(collection, truth, rows)
    return collection


def write_masks(collection: Collection, name: str, *, shift: int = 0) -> None:
    """Write a mask set of all pictures: their scenes' labels, class numbers moved on by ``shift``."""
    masks = collection.create_mask_set(name, config_hash="1" * 16, provenance={})
    ids, number = sorted(CLASSES), 0
    for part in collection.part_names():
        rows = []
        for picture in collection.read_part(part, ["image_id"]).column("image_id").to_pylist():
            mask, numbers = from_class_map((scene(number)[1] + shift) % len(ids), background=None)
            rows.append(mask_row(picture, mask, [ids[n] for n in numbers]))
            number += 1
        masks.write_part(part, mask_table(rows))
