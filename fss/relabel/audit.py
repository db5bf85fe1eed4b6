"""Masks against the truth, for those pictures whose truth is known: an audit, never seen by anything that trains."""

from collections.abc import Sequence

import numpy as np
import torch

from fss.collection import MaskSet
from fss.core.arrays import IGNORE, Mask
from fss.evaluation.metrics import Counts, Interval, compute_metrics, count_pixels, paired_differences
from fss.images.mask_codec import any_class, decode_mask, decode_soft

SURE = 0.5


def audit(masks: MaskSet, truth: MaskSet, parts: Sequence[str]) -> Counts:
    """Count the pixels of masks against the truth, class or not: object against background.

    A pixel that a mask ignores is decided by its soft map (0.5 or more is object); a picture without a mask counts as
    one in which nothing was found. Pictures whose truth is empty or unknown are left out, in every set the same.

    Args:
        masks: the set to judge.
        truth: the ground truth of some pictures.
        parts: which to look at.

    Returns:
        [E,2,2]: see ``metrics.Counts``, one row for each picture with a truth.

    Raises:
        ValueError: no picture of the parts has a truth.
    """
    counts = []
    for part in parts:
        true = truth.read_part(part, ["mask"]).column("mask").to_pylist()
        if not any(true):
            continue
        found = masks.read_part(part, ["mask", "soft"]).to_pylist()
        for data, row in zip(true, found, strict=True):
            target = any_class(decode_mask(data)) if data else None
            if target is not None and (target == 1).any():
                mask = binarize_mask(row["mask"], row["soft"]) if row["mask"] else np.zeros_like(target)
                counts.append(count_pixels(torch.from_numpy(mask)[None], torch.from_numpy(target)[None]))
    if not counts:
        raise ValueError(f"mask set {truth.name!r} has no object in the parts that are audited; name another one")
    return np.concatenate(counts)


def binarize_mask(mask: bytes, soft: bytes | None) -> Mask:
    """Decode a mask to uint8 [H,W] in {0,1}: any class is 1, and what it ignores is decided by its soft map."""
    values = decode_mask(mask)
    shown = (values > 0) & (values < IGNORE)
    if soft is not None and (values == IGNORE).any():
        shown |= (values == IGNORE) & (decode_soft(soft) >= SURE)
    return shown.astype(np.uint8)


def mean_iou(counts: Counts) -> Interval:
    """Mean IoU over the pictures, with its 95 % interval."""
    return compute_metrics([0] * len(counts), counts).episode_miou


def gain(now: Counts, before: Counts) -> Interval:
    """Mean IoU now minus before, on the same pictures, with its paired 95 % interval."""
    return paired_differences([0] * len(now), now, before)["episode_miou"]
