"""The masks of a mask set as answers, to look through and correct."""

import numpy as np

from fss.app.photographs import Photographs
from fss.app.session import Answer
from fss.collection import MaskSet, overview
from fss.core.arrays import IGNORE, BoolArray
from fss.images.mask_codec import binary_mask, decode_mask, encode_mask


def open_masks(mask_set: MaskSet, photographs: Photographs, label: str | None = None) -> tuple[dict[int, Answer], str]:
    """Return the masks of one class as answers by the position of their photograph, and the name of the class.

    Other classes count as background; ignored pixels stay ignored. A photograph without a mask has no answer.

    Args:
        mask_set: the mask set.
        photographs: photographs of its collection.
        label: name of the class. None: the only one of the set.

    Raises:
        ValueError: the set has no such class, or several and no one is named.
    """
    present = overview.summarize_masks(mask_set).pictures
    named = overview.class_names(mask_set, present)
    names = {class_id: named.get(class_id, str(class_id)) for class_id in present}
    listed = ", ".join(sorted(names.values())) or "none"
    chosen = [class_id for class_id, name in names.items() if label in (None, name)]
    if len(chosen) != 1:
        raise ValueError(
            f"--object-class is {label or 'not given'}, but the mask set {mask_set.name!r} has the classes {listed}; "
            "name one of them"
        )
    (class_id,) = chosen
    positions = {photograph.image_id: position for position, photograph in enumerate(photographs)}
    answers = {}
    for part in sorted(mask_set.finished_parts()):
        for row in mask_set.read_part(part, ["image_id", "mask", "classes"]).to_pylist():
            if row["mask"] and row["image_id"] in positions:
                classes = [each["id"] for each in row["classes"]]
                mask = binary_mask(decode_mask(row["mask"]), classes, class_id)
                answers[positions[row["image_id"]]] = Answer(
                    mask=_encode(mask == 1),
                    found=bool((mask == 1).any()),
                    opened=True,
                    ignored=_encode(mask == IGNORE) if (mask == IGNORE).any() else b"",
                )
    return answers, names[class_id]


def _encode(region: BoolArray) -> bytes:
    """Return a region, bool [H,W], as PNG of a mask in {0,1}."""
    return encode_mask(region.astype(np.uint8))
