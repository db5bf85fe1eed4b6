"""Where the supports of a picture come from: the most similar other pictures, or its own current mask.

Neighbours can outvote a mask that shows the wrong object; a picture's own mask confirms itself and only mends borders
and holes, so it is the way out for a picture that nothing else resembles.
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

MARGIN = 0.2  # of the object's extent, around it in a view of the object


@dataclass(frozen=True)
class Shot:
    """A support as pixels: a canvas uint8 [S,S,3] and its mask uint8 [S,S] in {0,1}."""

    rgb: UInt8
    mask: UInt8


Support = str | Shot
"""The id of a picture of the collection, or a support of its own."""
SupportSets = list[list[Support]]
"""Support sets of one picture, each of the same number of supports."""


def foreground(mask: UInt8) -> UInt8:
    """Return what an index mask shows of any class, uint8 in {0,1}; ignored pixels are 0."""
    return ((mask > 0) & (mask < IGNORE)).astype(np.uint8)


def shot_reader(masks: MaskSet, size: int) -> Callable[[str], Shot]:
    """Return what reads a picture with its mask by image id, ``size`` pixels a side; the mask shows any class."""
    reader = ImageReader(masks.collection, masks)

    def read(image_id: str) -> Shot:
        sample = reader.read(image_id)
        assert sample.mask is not None, "only pictures with a mask are supports"
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
    """Choose the support sets of a picture.

    Args:
        config: the rule.
        image_id: of the picture.
        rgb: its canvas, uint8 [S,S,3].
        mask: its current mask on the canvas, uint8 [S,S] in {0,1}.
        neighbours: ids of similar pictures, nearest first.
        similarity: theirs.

    Raises:
        ValueError: neither a neighbour that is near enough nor a mask of its own.
    """
    alike = similarity[0] if len(similarity) else -1.0
    if config.supports == "neighbours" and len(neighbours) >= config.sets and alike >= config.min_similarity:
        return deal(neighbours, config)
    if np.count_nonzero(mask) < 2:
        raise ValueError(f"no support: its own mask is empty and the nearest neighbour's cosine is {alike:.2f}")
    own = _views(rgb, mask) if config.own == "view" else _halves(config, image_id, rgb, mask)
    return [[shot] for shot in own]


def deal(neighbours: Sequence[str], config: RelabelConfig) -> SupportSets:
    """Deal neighbours, nearest first, to sets of equal size, so that no set has all of the near ones."""
    shots = min(config.shots, len(neighbours) // config.sets)
    return [list(neighbours[first :: config.sets][:shots]) for first in range(config.sets)]


def _views(rgb: UInt8, mask: UInt8) -> list[Shot]:
    """The mirror image, and the surroundings of the object at full size."""
    mirrored = Shot(np.ascontiguousarray(rgb[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]))
    rows, columns = _reach(mask.max(1)), _reach(mask.max(0))
    size = mask.shape[0]
    return [mirrored, Shot(image_canvas(rgb[rows, columns], size), mask_canvas(mask[rows, columns], size))]


def _reach(hit: UInt8) -> slice:
    places = np.flatnonzero(hit)
    first, last = int(places[0]), int(places[-1]) + 1
    margin = max(8, round(MARGIN * (last - first)))
    return slice(max(0, first - margin), min(len(hit), last + margin))


def _halves(config: RelabelConfig, image_id: str, rgb: UInt8, mask: UInt8) -> list[Shot]:
    """The two halves of one cut of the mask."""
    half = draw_split(mask, SplitConfig(), seed=config.seed, epoch=0, item=image_id).support
    return [Shot(rgb, half), Shot(rgb, mask & (1 - half))]
