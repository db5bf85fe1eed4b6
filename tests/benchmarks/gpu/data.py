"""Data of the check: random episodes, and a collection of generated photographs."""

import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fss.collection import ClassIndex, Collection, ImageReader, MaskSet
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.core.arrays import Mask, UInt8
from fss.episodes.augmentation import identity_view
from fss.episodes.episode import RawEpisodes
from fss.images.mask_codec import mask_row

SIDES = (480, 640)
"""Height and width of a photograph, in pixels."""
CLASSES = 10
PART = 50  # photographs of a part


@dataclass
class RandomStream:
    """Random episodes of one step, the same in every step."""

    image_size: int
    count: int
    steps_per_epoch: int = 1000

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield the same batch again and again."""
        rng, side = torch.Generator().manual_seed(0), self.image_size
        pixels = torch.randint(0, 256, (self.count, 2, 3, side, side), generator=rng, dtype=torch.uint8)
        masks = torch.zeros(self.count, 2, side, side, dtype=torch.uint8)
        masks[..., : side // 2] = 1
        views = torch.from_numpy(identity_view()).repeat(self.count, 2, 1)
        raw = RawEpisodes(
            query=pixels[:, 0].contiguous(),
            query_masks=masks[:, 0].contiguous(),
            query_views=views[:, 0],
            support=pixels[:, 1:].contiguous(),
            support_masks=masks[:, 1:].contiguous(),
            support_views=views[:, 1:],
            ids=tuple(map(str, range(self.count))),
        )
        raw = raw.pin_memory() if torch.cuda.is_available() else raw
        for _ in range(start, self.steps_per_epoch):
            yield raw


def painted(number: int, sides: tuple[int, int] = SIDES) -> tuple[UInt8, Mask]:
    """Return a smooth picture, uint8 [H, W, 3], and the mask of an ellipse on it, uint8 [H, W] in {0, 1}."""
    rng, (height, width) = np.random.default_rng(number), sides
    coarse = rng.integers(0, 200, (12, 16, 3), dtype=np.uint8)
    rgb = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    mask = np.zeros(sides, np.uint8)
    centre = int(width * rng.uniform(0.3, 0.7)), int(height * rng.uniform(0.3, 0.7))
    axes = int(width * rng.uniform(0.1, 0.25)), int(height * rng.uniform(0.1, 0.25))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    rgb[mask == 1] = rgb[mask == 1] // 2 + rng.integers(60, 128, 3, dtype=np.uint8)
    return rgb, mask


@dataclass(frozen=True)
class Photographs:
    """A labelled collection."""

    folder: tempfile.TemporaryDirectory[str]
    """Folder that is deleted when the program ends."""
    collection: Collection
    masks: MaskSet
    index: ClassIndex

    @property
    def reader(self) -> ImageReader:
        """Return a new reader of images and masks."""
        return ImageReader(self.collection, self.masks)


@functools.cache
def photographs(count: int) -> Photographs:
    """Generate JPEGs of 640 x 480, each with one object of ten classes, as a collection in a temporary folder."""
    folder = tempfile.TemporaryDirectory(prefix="fss-gpu-check-")
    names = {number + 1: f"class {number}" for number in range(CLASSES)}
    collection = Collection.create(folder.name, name="generated", source="check", part_size=PART, classes=names)
    masks = collection.create_mask_set("truth", config_hash="0" * 16, provenance={})
    for part, start in enumerate(range(0, count, PART)):
        images, answers = [], []
        for number in range(start, min(start + PART, count)):
            rgb, mask = painted(number)
            data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
            image_id, (height, width) = make_image_id(data, f"{number}.jpg"), SIDES
            images.append(
                {
                    "image_id": image_id,
                    "uri": f"{number}.jpg",
                    "image": data,
                    "height": height,
                    "width": width,
                    "format": "JPEG",
                }
            )
            answers.append(mask_row(image_id, mask, [number % CLASSES + 1]))
        collection.write_part(part_name(part), image_table(images))
        masks.write_part(part_name(part), mask_table(answers))
    return Photographs(folder, collection, masks, ClassIndex.build(masks))
