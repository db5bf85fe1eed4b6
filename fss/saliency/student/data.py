"""Training data of the saliency student: images, pseudo-masks and a weight for each, read from a collection."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fss.collection import MaskSet
from fss.collection.acceptance import quality, read_scores, select_rows
from fss.collection.config import AcceptanceRule
from fss.collection.part_io import read_image_bytes
from fss.core.arrays import Float32
from fss.core.rng import keyed_rng
from fss.images.decode import decode_image
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import decode_mask

STRIDE = 4
"""Side of an image divided by the side of its target."""


@dataclass(kw_only=True)
class StudentData:
    """N images of side S with pseudo-masks, in memory. A student needs at most 10,000 images: 2 GB at 224 pixels."""

    images: npt.NDArray[np.uint8]
    """RGB images, uint8 [N,S,S,3]."""
    targets: Float32
    """Share of the object in each cell, [N,S/4,S/4] in 0..1."""
    weights: Float32
    """Weight of each mask, [N] in 0..1. An image of weight 0 is not trained on until a round predicts its mask."""

    def __post_init__(self) -> None:
        count, size = self.images.shape[:2]
        side = size // STRIDE
        if self.targets.shape != (count, side, side) or self.weights.shape != (count,):
            raise ValueError(
                f"images {self.images.shape} need targets {(count, side, side)} and weights {(count,)}, got "
                f"{self.targets.shape} and {self.weights.shape}"
            )
        if (trusted := int((self.weights > 0).sum())) < 10:
            raise ValueError(f"a student needs at least 10 masks of weight above 0, got {trusted}; give it hundreds")


def load_student_data(
    masks: MaskSet, size: int, *, acceptance: str | None = "default", most: int = 10_000, seed: int = 0
) -> StudentData:
    """Read images and masks at the student's size.

    The weight of an accepted mask is the rank of its quality. Every other usable image has weight 0.

    Args:
        masks: the pseudo-masks; their collection holds the images.
        size: side in pixels of the square that images are resized to.
        acceptance: name of the acceptance that selects masks; None accepts all that pass every gate.
        most: number of images to read; whole parts are drawn at random until they hold as many.
        seed: seed of that draw.

    Raises:
        ValueError: the mask set is incomplete, lacks the acceptance, or has too few accepted masks.
    """
    collection = masks.collection
    names = collection.part_names()
    masks.require_parts(names)
    rows = [table.num_rows for _, table in collection.parts.tables(names, ["error"])]
    order = keyed_rng(seed, purpose="student.parts").permutation(len(names))
    needed = 1 + int(np.searchsorted(np.cumsum(np.array(rows)[order]), most))
    chosen = sorted(names[part] for part in order[:needed])
    trust = _trust(masks, chosen, acceptance)
    images, targets, weights = [], [], []
    for part in chosen:
        table = collection.read_part(part, ["image_id", "uri", "image", "error"])
        mask_table = masks.read_part(part, ["mask", "error"])
        for row, mask in zip(table.to_pylist(), mask_table.to_pylist(), strict=True):
            rgb = _decode(row, collection.limits)
            if rgb is None or mask["error"]:
                continue
            images.append(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA))
            targets.append(shrink_mask(decode_mask(mask["mask"]) > 0, size))
            weights.append(trust.get(row["image_id"], 0.0))
    if not images:
        raise ValueError(f"no image of {collection.uri} has a mask in {masks.name!r}")
    return StudentData(
        images=np.stack(images).astype(np.uint8), targets=np.stack(targets), weights=np.array(weights, np.float32)
    )


def shrink_mask(mask: npt.NDArray[np.bool_], size: int) -> Float32:
    """Shrink a mask, bool [H,W], to the target of an image of side ``size``: share of the object, [size/4,size/4]."""
    side = (size // STRIDE, size // STRIDE)
    return np.asarray(cv2.resize(mask.astype(np.float32), side, interpolation=cv2.INTER_AREA), np.float32)


def _trust(masks: MaskSet, parts: list[str], acceptance: str | None) -> dict[str, float]:
    """Return the rank of the quality, 0..1, of each accepted mask by image id."""
    scores = read_scores(masks, parts)
    ids = scores.column("image_id").to_pylist()
    ranks = quality(scores)
    if acceptance is None:
        return {ids[row]: float(ranks[row]) for row in select_rows(scores, AcceptanceRule(quantile=1.0))}
    accepted = masks.read_acceptance(acceptance).accepted
    return {name: float(rank) for name, rank in zip(ids, ranks, strict=True) if name in accepted}


def _decode(row: dict[str, Any], limits: DecodeLimits) -> npt.NDArray[np.uint8] | None:
    if row["error"]:
        return None
    try:
        return decode_image(read_image_bytes(row["image"], row["uri"], limits, image_id=row["image_id"]), limits)
    except DecodeError:
        return None  # the mask set holds the reason
