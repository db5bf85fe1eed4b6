"""What a saliency student learns from: pictures, pseudo-masks and the trust in each, read from a collection."""

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
from fss.images.decode import DecodeError, decode_image
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import decode_mask

STRIDE = 4
"""Side of a picture over the side of its target."""


@dataclass(kw_only=True)
class StudentData:
    """Pictures and pseudo-masks in memory; N pictures of side S. 10,000 at 224 are 2 GB and plenty for a student."""

    images: npt.NDArray[np.uint8]
    """[N,S,S,3] RGB."""
    targets: Float32
    """[N,S/4,S/4] share of object, 0..1."""
    weights: Float32
    """[N] trust in each mask, 0..1; with 0 a picture teaches nothing until a student has found its object."""

    def __post_init__(self) -> None:
        count, size = self.images.shape[:2]
        side = size // STRIDE
        if self.targets.shape != (count, side, side) or self.weights.shape != (count,):
            raise ValueError(
                f"images {self.images.shape} want targets {(count, side, side)} and weights {(count,)}, got "
                f"{self.targets.shape} and {self.weights.shape}"
            )
        if (trusted := int((self.weights > 0).sum())) < 10:
            raise ValueError(
                f"a student needs masks to learn from, got {trusted} with trust; give it hundreds at least"
            )


def load_student_data(
    masks: MaskSet, size: int, *, acceptance: str | None = "default", most: int = 10_000, seed: int = 0
) -> StudentData:
    """Read pictures and masks at the student's size.

    An accepted mask is trusted by the rank of its quality; every other usable picture comes with trust 0.

    Args:
        masks: the pseudo-masks; its collection holds the pictures.
        size: side of the square that pictures are resized to.
        acceptance: which masks to trust; None: all that pass every gate.
        most: whole parts are read, drawn at random, until there are this many pictures.
        seed: of that draw.

    Raises:
        ValueError: the mask set lacks parts or has no such acceptance, or hardly a mask can be trusted.
    """
    collection = masks.collection
    names = collection.part_names()
    if missing := sorted(set(names) - masks.finished_parts()):
        raise ValueError(
            f"mask set {masks.name!r} lacks {len(missing)} of {len(names)} parts ({missing[0]}, ...); "
            "run the job that makes it again, it goes on where it stopped"
        )
    parts = [names[k] for k in keyed_rng(seed, purpose="student.parts").permutation(len(names))]
    chosen = sorted(parts[: max(1, -(-most // collection.part_size))])
    trust = _trust(masks, chosen, acceptance)
    images, targets, weights = [], [], []
    for part in chosen:
        table = collection.read_part(part, ["image_id", "uri", "image", "error"])
        found = masks.read_part(part, ["mask", "error"])
        for record, mask in zip(table.to_pylist(), found.to_pylist(), strict=True):
            rgb = _picture(record, collection.limits)
            if rgb is None or mask["error"]:
                continue
            images.append(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA))
            targets.append(shrink_mask(decode_mask(mask["mask"]) > 0, size))
            weights.append(trust.get(record["image_id"], 0.0))
    if not images:
        raise ValueError(f"no picture of {collection.uri} has a mask in {masks.name!r}")
    return StudentData(
        images=np.stack(images).astype(np.uint8), targets=np.stack(targets), weights=np.array(weights, np.float32)
    )


def shrink_mask(mask: npt.NDArray[np.bool_], size: int) -> Float32:
    """Bring a mask [H,W] to the size of a target of pictures of side ``size``: share of object, [size/4,size/4]."""
    side = (size // STRIDE, size // STRIDE)
    return np.asarray(cv2.resize(mask.astype(np.float32), side, interpolation=cv2.INTER_AREA), np.float32)


def _trust(masks: MaskSet, parts: list[str], acceptance: str | None) -> dict[str, float]:
    """Rank of the quality, 0..1, of each accepted mask."""
    scores = read_scores(masks, parts)
    ids = scores.column("image_id").to_pylist()
    ranks = quality(scores)
    if acceptance is None:
        return {ids[row]: float(ranks[row]) for row in select_rows(scores, AcceptanceRule(quantile=1.0))}
    accepted = masks.read_acceptance(acceptance).accepted
    return {name: float(rank) for name, rank in zip(ids, ranks, strict=True) if name in accepted}


def _picture(record: dict[str, Any], limits: DecodeLimits) -> npt.NDArray[np.uint8] | None:
    if record["error"]:
        return None
    try:
        return decode_image(read_image_bytes(record["image"], record["uri"], limits), limits)
    except DecodeError:
        return None  # the pseudo-mask job has put the reason into the mask set
