"""A collection of discs on plain grounds with a current mask set."""

from pathlib import Path

import cv2
import numpy as np

from fss.collection import Collection
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.images.mask_codec import mask_row

COLOURS = ((220, 40, 40), (40, 200, 60), (40, 60, 220))


def disc(number: int, side: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask; every third picture has the same colour."""
    rng = np.random.default_rng(number)
    mask = np.zeros((side, side + 12), np.uint8)
    centre = int(rng.integers(20, side - 8)), int(rng.integers(20, side - 20))
    cv2.circle(mask, centre, int(rng.integers(10, 16)), 1, -1)
    rgb = rng.integers(90, 130, (*mask.shape, 3)).astype(np.uint8)
    rgb[mask == 1] = COLOURS[number % 3]
    return rgb, mask


def png(rgb: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()


def build(
    folder: Path, *, count: int = 12, part_size: int = 4, broken: tuple[int, ...] = (), empty: tuple[int, ...] = ()
) -> Collection:
    """Make a collection; ``broken`` pictures cannot be decoded, ``empty`` ones have an empty mask."""
    collection = Collection.create(str(folder), name="discs", source="test", part_size=part_size)
    masks = collection.create_mask_set("saliency", config_hash="a" * 16, provenance={"method": "test"})
    for start in range(0, count, part_size):
        images, rows = [], []
        for number in range(start, min(start + part_size, count)):
            rgb, mask = disc(number)
            data = png(rgb)[:40] if number in broken else png(rgb)
            identity = make_image_id(data, f"{number}.png")
            images.append({"image_id": identity, "uri": f"{number}.png", "image": data, "height": 60, "width": 72})
            mask = np.zeros_like(mask) if number in empty else mask
            rows.append(mask_row(identity, mask, [1] if mask.any() else []))
        part = part_name(start // part_size)
        collection.write_part(part, image_table(images))
        masks.write_part(part, mask_table(rows))
    return collection
