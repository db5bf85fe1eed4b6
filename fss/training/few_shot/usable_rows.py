"""Which rows of a collection can be trained on: one scan of light columns, no picture or mask decoded."""

import hashlib
from collections.abc import Collection as Ids
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.core.rng import keyed_rng
from fss.episodes.config import SplitConfig
from fss.episodes.mask_split import is_splittable

Rows = NDArray[np.int32]


@dataclass(frozen=True)
class RowTable:
    """The usable rows of every part, those held out apart, and the count of those left out."""

    parts: tuple[str, ...]
    """Part names, in the collection's order."""
    train: tuple[Rows, ...]
    """For each part the row numbers to train on."""
    held_out: tuple[Rows, ...]
    """For each part the row numbers that are never trained on."""
    first_slot: tuple[int, ...]
    """For each part the number of rows of all parts before it."""
    total: int
    """Rows of all parts, usable or not."""
    counts: dict[str, int]
    """train, held_out, and what was left out: no_mask, not_accepted, too_small."""
    key: str
    """16 hex digits over the image ids of all parts."""


def scan(
    collection: Collection,
    mask_set: MaskSet,
    split: SplitConfig,
    *,
    accepted: Ids[str] | None = None,
    held_out: float = 0.0,
) -> RowTable:
    """Find the usable rows: with a mask, accepted, and with an object that is large enough to be cut.

    Whether a row is held out depends on its image id alone, so that all runs agree; where a share above 0 finds none,
    the row with the smallest draw is held out.

    Raises:
        ValueError: the mask set lacks parts, or no row is usable.
    """
    parts = tuple(collection.part_names())
    missing = sorted(set(parts) - mask_set.finished_parts())
    if missing:
        raise ValueError(
            f"mask set {mask_set.name!r} lacks {len(missing)} of {len(parts)} parts ({missing[0]}, ...); "
            "run the job that makes it again, it goes on where it stopped"
        )
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: _scan_part(collection, mask_set, part, split, accepted), parts))
    draws = [draws for _, draws, _, _ in found]
    threshold = _threshold(draws, held_out)
    counts = {name: sum(left_out[name] for *_, left_out in found) for name in ("no_mask", "not_accepted", "too_small")}
    kept = [rows for rows, *_ in found]
    train = tuple(rows[d > threshold] for rows, d in zip(kept, draws, strict=True))
    held = tuple(rows[d <= threshold] for rows, d in zip(kept, draws, strict=True))
    sizes = [len(ids) for _, _, ids, _ in found]
    counts = {"train": sum(map(len, train)), "held_out": sum(map(len, held)), **counts}
    if not counts["train"]:
        raise ValueError(f"no image of {collection.uri} can be trained on with mask set {mask_set.name!r}: {counts}")
    digest = hashlib.sha256("\n".join(name for _, _, ids, _ in found for name in ids).encode())
    return RowTable(
        parts=parts,
        train=train,
        held_out=held,
        first_slot=tuple(int(n) for n in np.cumsum([0, *sizes[:-1]])),
        total=sum(sizes),
        counts=counts,
        key=digest.hexdigest()[:16],
    )


def _scan_part(
    collection: Collection, mask_set: MaskSet, part: str, split: SplitConfig, accepted: Ids[str] | None
) -> tuple[Rows, NDArray[np.float64], list[str], dict[str, int]]:
    """Return usable rows, their held-out draws, all image ids of the part, and the counts of what was left out."""
    images = collection.read_part(part, ["image_id", "height", "width", "error"]).to_pylist()
    masks = mask_set.read_part(part, ["classes", "error"]).to_pylist()
    rows, draws = [], []
    left_out = {"no_mask": 0, "not_accepted": 0, "too_small": 0}
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        sizes = [entry["pixels"] for entry in mask["classes"] or ()]
        if image["error"] or mask["error"] or not sizes:
            left_out["no_mask"] += 1
        elif accepted is not None and image["image_id"] not in accepted:
            left_out["not_accepted"] += 1
        elif not is_splittable(max(sizes), image["height"], image["width"], split):
            left_out["too_small"] += 1
        else:
            rows.append(number)
            draws.append(float(keyed_rng(0, item=image["image_id"], purpose="held_out").random()))
    return np.array(rows, np.int32), np.array(draws), [image["image_id"] for image in images], left_out


def _threshold(draws: list[NDArray[np.float64]], share: float) -> float:
    """Return the largest draw that is held out; -1 for none."""
    together = np.concatenate(draws) if draws else np.zeros(0)
    if share <= 0 or len(together) < 2:
        return -1.0
    return max(share, float(together.min()))
