"""Pictures of discs whose masks are known, and small collections."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from fss.collection import Collection, MaskSet
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.core.rng import keyed_rng
from fss.images.mask_codec import mask_row
from tests.helpers.bad_files.formats import encoded

Pixels = npt.NDArray[np.uint8]
Row = tuple[dict[str, Any], dict[str, Any]]
"""A row of the images and its row of a mask set."""

COLOURS = ((220, 40, 40), (40, 200, 60), (40, 60, 220))
SIDES = (48, 64)


def png(rgb: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()


def image_row(data: bytes, path: str, height: int, width: int) -> dict[str, Any]:
    identity = make_image_id(data, path)
    return {"image_id": identity, "uri": path, "image": data, "height": height, "width": width, "format": "PNG"}


def write_rows(collection: Collection, masks: MaskSet, rows: Sequence[Row]) -> None:
    """Write all parts of an empty collection and of a mask set."""
    size = collection.part_size
    for number, start in enumerate(range(0, len(rows), size)):
        images, answers = zip(*rows[start : start + size], strict=True)
        collection.write_part(part_name(number), image_table(images))
        masks.write_part(part_name(number), mask_table(answers))


def disc(
    height: int = 120,
    width: int = 160,
    *,
    centre: tuple[float, float] = (0.5, 0.5),
    radius: float = 0.25,
    seed: int = 0,
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """A red disc on noisy green, and its mask; centre and radius are shares of the sides and of the shorter side."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[:height, :width]
    mask = (y - centre[0] * height) ** 2 + (x - centre[1] * width) ** 2 < (radius * min(height, width)) ** 2
    rgb = np.where(mask[..., None], [200, 60, 50], [60, 130, 70]) + rng.normal(0, 6, (height, width, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8), mask


def iou(mask: Pixels, truth: npt.NDArray[np.bool_]) -> float:
    return float(((mask > 0) & truth).sum() / ((mask > 0) | truth).sum())


def noisy_disc(number: int) -> tuple[bytes, Pixels]:
    """Return a disc on noise as PNG, and the mask, uint8 [48, 64] with 1 on the disc."""
    rng = keyed_rng(0, item=number, purpose="test.photograph")
    ys, xs = np.mgrid[: SIDES[0], : SIDES[1]]
    inside = (xs - rng.uniform(20, 44)) ** 2 + (ys - rng.uniform(16, 32)) ** 2 <= rng.uniform(8, 14) ** 2
    mask = inside.astype(np.uint8)
    rgb = rng.integers(0, 90, (*SIDES, 3)).astype(np.uint8) + 120 * mask[..., None]
    return png(rgb), mask


def noisy_collection(folder: Path, images: int, part_size: int = 8) -> tuple[Collection, MaskSet]:
    """Write a collection whose last image of the first part has no mask and whose first one has a mask of one pixel."""
    collection = Collection.create(str(folder), name="discs", source="test", part_size=part_size, classes={1: "disc"})
    mask_set = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    rows: list[Row] = []
    for number in range(images):
        data, mask = noisy_disc(number)
        row = image_row(data, f"{number}.png", *SIDES)
        if number == 0:
            mask = np.zeros_like(mask)
            mask[3, 3] = 1
        missing = number == part_size - 1
        answer = mask_row(row["image_id"], None, error="none") if missing else mask_row(row["image_id"], mask, [1])
        rows.append((row, answer))
    write_rows(collection, mask_set, rows)
    return collection, mask_set


def coloured_disc(number: int, side: int = 60) -> tuple[Pixels, Pixels]:
    """Return picture and mask on plain ground; every third picture has the same colour."""
    rng = np.random.default_rng(number)
    mask = np.zeros((side, side + 12), np.uint8)
    centre = int(rng.integers(20, side - 8)), int(rng.integers(20, side - 20))
    cv2.circle(mask, centre, int(rng.integers(10, 16)), 1, -1)
    rgb = rng.integers(90, 130, (*mask.shape, 3)).astype(np.uint8)
    rgb[mask == 1] = COLOURS[number % 3]
    return rgb, mask


def coloured_collection(
    folder: Path, *, count: int = 12, part_size: int = 4, broken: tuple[int, ...] = (), empty: tuple[int, ...] = ()
) -> Collection:
    """Write a collection; ``broken`` pictures cannot be decoded, ``empty`` ones have an empty mask."""
    collection = Collection.create(str(folder), name="discs", source="test", part_size=part_size)
    masks = collection.create_mask_set("saliency", config_hash="a" * 16, provenance={"method": "test"})
    rows: list[Row] = []
    for number in range(count):
        rgb, mask = coloured_disc(number)
        row = image_row(png(rgb)[:40] if number in broken else png(rgb), f"{number}.png", *mask.shape)
        mask = np.zeros_like(mask) if number in empty else mask
        rows.append((row, mask_row(row["image_id"], mask, [1] if mask.any() else [])))
    write_rows(collection, masks, rows)
    return collection


def fill(collection: Collection, parts: int = 2, rows: int = 3) -> Collection:
    """Write parts of pictures, 40 x 48, and the mask set ``truth`` with classes 7 and 300."""
    truth = collection.create_mask_set("truth", config_hash="0", provenance={"method": "test"})
    mask = np.zeros((40, 48), np.uint8)
    mask[:10], mask[10:15], mask[15] = 1, 2, 255
    for number in range(parts):
        images = [image_row(encoded("PNG"), f"{number}/{row}.png", 40, 48) for row in range(rows)]
        answers = [mask_row(image["image_id"], mask, [7, 300]) for image in images]
        collection.write_part(part_name(number), image_table(images))
        truth.write_part(part_name(number), mask_table(answers))
    return collection
