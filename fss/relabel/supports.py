"""Support sets of an image: the most similar other images, or the image with its own current mask.

Neighbours can outvote a mask of the wrong object. An image's own mask confirms itself and only repairs borders and
holes, so it is the fallback for images that have no similar neighbour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fss.collection import ImageReader, MaskSet
from fss.core.arrays import IGNORE, UInt8
from fss.episodes.config import SplitConfig
from fss.episodes.mask_split import draw_split
from fss.images.resize import image_canvas, mask_canvas
from fss.relabel.config import RelabelConfig

MARGIN = 0.2  # context around the object in a crop, as a share of the object's extent


@dataclass(frozen=True)
class Shot:
    """The pixels of a support: a canvas, uint8 [S,S,3], and its mask, uint8 [S,S] in {0,1}."""

    rgb: UInt8
    mask: UInt8

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.rgb.nbytes + self.mask.nbytes


Support = str | Shot
"""The name of a support in the bank, or the pixels of a support that was cut from the image itself."""
SupportSets = list[list[Support]]
"""Support sets of one image, all with the same number of supports."""


def foreground(mask: UInt8) -> UInt8:
    """Return the foreground of an index mask, uint8 in {0,1}: every class is 1, background and ignored pixels are 0."""
    return ((mask > 0) & (mask < IGNORE)).astype(np.uint8)


def shot_reader(masks: MaskSet, size: int) -> Callable[[str], Shot]:
    """Return a function from an image id to its shot of ``size`` pixels a side; every class of the mask is 1."""
    reader = ImageReader(masks.collection, masks)

    def read(image_id: str) -> Shot:
        sample = reader.read(image_id)
        assert sample.mask is not None, "a support needs a mask"
        return Shot(image_canvas(sample.rgb, size), foreground(mask_canvas(sample.mask, size)))

    return read


def support_sets(
    config: RelabelConfig,
    image_id: str,
    rgb: UInt8,
    mask: UInt8,
    neighbours: Sequence[str],
    similarity: Sequence[float],
) -> SupportSets:
    """Choose the support sets of an image.

    Args:
        config: where supports come from.
        image_id: id of the image; it keys the random split of its mask.
        rgb: canvas of the image, uint8 [S,S,3].
        mask: current mask on the canvas, uint8 [S,S] in {0,1}.
        neighbours: ids of similar images, nearest first.
        similarity: cosine of each neighbour with the image.

    Raises:
        ValueError: the image has neither a neighbour that is similar enough nor a mask of its own.
    """
    nearest = similarity[0] if len(similarity) else -1.0
    if config.supports == "neighbours" and len(neighbours) >= config.sets and nearest >= config.min_similarity:
        return deal(neighbours, config)
    if np.count_nonzero(mask) < 2:
        raise ValueError(f"no support: its own mask is empty and the nearest neighbour's cosine is {nearest:.2f}")
    shots = _views(rgb, mask) if config.own == "view" else _halves(config, image_id, rgb, mask)
    return [[shot] for shot in shots]


def deal(neighbours: Sequence[str], config: RelabelConfig) -> SupportSets:
    """Deal neighbours, nearest first, round-robin into sets of equal size, so that every set gets near ones."""
    shots = min(config.shots, len(neighbours) // config.sets)
    return [list(neighbours[first :: config.sets][:shots]) for first in range(config.sets)]


def _views(rgb: UInt8, mask: UInt8) -> list[Shot]:
    """Return the mirror image, and a crop around the object enlarged to the canvas."""
    mirrored = Shot(np.ascontiguousarray(rgb[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]))
    rows, columns = _extent_with_margin(mask.max(1)), _extent_with_margin(mask.max(0))
    size = mask.shape[0]
    return [mirrored, Shot(image_canvas(rgb[rows, columns], size), mask_canvas(mask[rows, columns], size))]


def _extent_with_margin(occupied: UInt8) -> slice:
    indices = np.flatnonzero(occupied)
    first, last = int(indices[0]), int(indices[-1]) + 1
    margin = max(8, round(MARGIN * (last - first)))
    return slice(max(0, first - margin), min(len(occupied), last + margin))


def _halves(config: RelabelConfig, image_id: str, rgb: UInt8, mask: UInt8) -> list[Shot]:
    """Split the mask once and return a shot for each half."""
    half = draw_split(mask, SplitConfig(), seed=config.seed, epoch=0, item=image_id).support
    return [Shot(rgb, half), Shot(rgb, mask & (1 - half))]
