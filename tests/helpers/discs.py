"""Photographs of discs on noise, and a small collection of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fss.collection import Collection, MaskSet
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.core.rng import keyed_rng
from fss.images.mask_codec import mask_row

SIDES = (48, 64)


def photograph(number: int) -> tuple[bytes, np.ndarray]:
    """Return PNG bytes and the mask, uint8 [48, 64] with 1 on a disc."""
    rng = keyed_rng(0, item=number, purpose="test.photograph")
    ys, xs = np.mgrid[: SIDES[0], : SIDES[1]]
    mask = ((xs - rng.uniform(20, 44)) ** 2 + (ys - rng.uniform(16, 32)) ** 2 <= rng.uniform(8, 14) ** 2).astype(
        np.uint8
    )
    rgb = rng.integers(0, 90, (*SIDES, 3)).astype(np.uint8) + 120 * mask[..., None]
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue(), mask


def build(folder: Path, images: int, part_size: int = 8) -> tuple[Collection, MaskSet]:
    """Write a collection whose last image of the first part has no mask and whose first one shows hardly anything."""
    collection = Collection.create(str(folder), name="discs", source="test", part_size=part_size, classes={1: "disc"})
    mask_set = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    for part in range(-(-images // part_size)):
        rows, masks = [], []
        for number in range(part * part_size, min(images, (part + 1) * part_size)):
            data, mask = photograph(number)
            name = make_image_id(data, str(number))
            if number == 0:
                mask = np.zeros_like(mask)
                mask[3, 3] = 1
            rows.append(
                {"image_id": name, "uri": f"{number}.png", "image": data, "height": 48, "width": 64, "format": "PNG"}
            )
            masks.append(mask_row(name, None, error="none") if number == part_size - 1 else mask_row(name, mask, [1]))
        collection.write_part(part_name(part), image_table(rows))
        mask_set.write_part(part_name(part), mask_table(masks))
    return collection, mask_set
