"""Audit of a mask set: its IoU with the ground truth, on the images that have one.

Nothing that trains reads the audit.
"""

from collections.abc import Sequence

import numpy as np
import torch

from fss.collection import MaskSet
from fss.core.arrays import IGNORE, Mask
from fss.evaluation.metrics import Counts, Interval, compute_metrics, count_pixels, paired_differences
from fss.images.mask_codec import any_class, decode_mask, decode_soft

SOFT_THRESHOLD = 0.5


def audit(masks: MaskSet, truth: MaskSet, parts: Sequence[str]) -> Counts:
    """Count the pixels of masks against the ground truth, as object against background whatever the class.

    Ignored pixels of a mask take the value of its soft map (0.5 or more is object). An image without a mask counts as
    all background. Images without a truth, or with an empty one, are left out, so every mask set of a collection is
    counted on the same images.

    Args:
        masks: the set to audit.
        truth: the ground truth of some images.
        parts: names of the parts to read.

    Returns:
        int64 [E,2,2] (see ``metrics.Counts``), one row for each image with a truth.

    Raises:
        ValueError: no image of the parts has an object in the truth.
    """
    counts = []
    for part in parts:
        true_masks = truth.read_part(part, ["mask"]).column("mask").to_pylist()
        if not any(true_masks):
            continue
        rows = masks.read_part(part, ["mask", "soft"]).to_pylist()
        for data, row in zip(true_masks, rows, strict=True):
            target = any_class(decode_mask(data)) if data else None
            if target is not None and (target == 1).any():
                mask = binarize_mask(row["mask"], row["soft"]) if row["mask"] else np.zeros_like(target)
                counts.append(count_pixels(torch.from_numpy(mask)[None], torch.from_numpy(target)[None]))
    if not counts:
        raise ValueError(f"mask set {truth.name!r} has no object in the audited parts; name another mask set")
    return np.concatenate(counts)


def binarize_mask(mask: bytes, soft: bytes | None) -> Mask:
    """Decode a mask to uint8 [H,W] in {0,1}: every class is 1, and ignored pixels follow the soft map."""
    values = decode_mask(mask)
    foreground = (values > 0) & (values < IGNORE)
    if soft is not None and (values == IGNORE).any():
        foreground |= (values == IGNORE) & (decode_soft(soft) >= SOFT_THRESHOLD)
    return foreground.astype(np.uint8)


def mean_iou(counts: Counts) -> Interval:
    """Return the mean IoU over the images of [E,2,2] counts, in [0, 1], with its 95 % interval."""
    return compute_metrics([0] * len(counts), counts).episode_miou


def gain(now: Counts, before: Counts) -> Interval:
    """Return the mean IoU of ``now`` minus that of ``before`` on the same images, with its paired 95 % interval."""
    return paired_differences([0] * len(now), now, before)["episode_miou"]
