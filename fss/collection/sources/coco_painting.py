"""The mask of a photograph from its objects in COCO's form.

A listing stores the objects of a photograph as JSON: ``height`` and ``width`` of the picture, ``objects``, each
``[class id, crowd, segmentation]``, and ``left_out``, the number of objects by reason that the listing left out. The
class id 0 stands for background, and for ignored pixels where crowd is 1.
"""

import json
from collections import Counter
from typing import Any

import numpy as np

from fss.collection.sources.coco_categories import BACKGROUND
from fss.collection.sources.coco_file import whole_number
from fss.core.arrays import IGNORE
from fss.images.decode_errors import DecodeError
from fss.images.labels import LabelMask
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import from_class_map
from fss.images.outlines import decode_outline, encode_outline

_CROWD, _SINGLE, _IGNORED = range(3)  # kinds of objects, the lowest first


def paint(annotation: dict[str, Any], limits: DecodeLimits) -> LabelMask:
    """Paint the objects of a photograph.

    Smaller objects cover larger ones, and all single objects cover crowds, whose pixels are ignored. What is drawn to
    be ignored covers everything. A faulty object is left out and counted.

    Raises:
        DecodeError: the size is missing or exceeds the limits, every object is faulty, or too many classes are visible.
    """
    height, width = _size(annotation, limits)
    left_out: Counter[str] = Counter(annotation.get("left_out", {}))
    layers = []
    for class_id, crowd, segmentation in annotation["objects"]:
        try:
            code, area = encode_outline(segmentation, height, width)
        except DecodeError as error:
            left_out[error.reason] += 1
        else:
            order = _SINGLE if not crowd else _IGNORED if class_id == BACKGROUND else _CROWD
            layers.append((order, -area, class_id, code))
    if left_out and not layers:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DecodeError(left_out.most_common(1)[0][0], f"no object of the picture can be painted ({reasons})")
    ids = sorted({class_id for order, _, class_id, _ in layers if order == _SINGLE and class_id != BACKGROUND})
    values = {BACKGROUND: 0, **{class_id: value for value, class_id in enumerate(ids, start=1)}}
    void = max(IGNORE, len(ids) + 1)
    columns = np.zeros((width, height), np.uint8 if void == IGNORE else np.uint16)  # COCO counts column by column
    for order, _, class_id, code in sorted(layers, key=lambda layer: layer[:3]):
        np.copyto(columns, values[class_id] if order == _SINGLE else void, where=decode_outline(code).T)
    try:
        mask, numbers = from_class_map(np.ascontiguousarray(columns.T), background=0, void=(void,))
    except ValueError as error:
        raise DecodeError("too-many-classes", str(error)) from error
    return LabelMask(mask=mask, class_ids=tuple(ids[number - 1] for number in numbers), left_out=dict(left_out))


def encode_annotation(height: Any, width: Any, objects: list[tuple[int, int, Any]], left_out: dict[str, int]) -> str:
    """Return the JSON that a listing stores."""
    annotation = {"height": height, "width": width, "objects": objects} | ({"left_out": left_out} if left_out else {})
    return json.dumps(annotation, separators=(",", ":"))


def _size(annotation: dict[str, Any], limits: DecodeLimits) -> tuple[int, int]:
    """Return height and width of a picture as its annotation file gives them."""
    sides = (annotation["height"], annotation["width"])
    values = [whole_number(side) for side in sides]
    height, width = values
    if height is None or width is None or min(height, width) < 1:
        raise DecodeError("bad-size", f"the annotation file gives height {_short(sides[0])}, width {_short(sides[1])}")
    if max(height, width) > limits.max_side or height * width > limits.max_pixels:
        raise DecodeError(
            "bad-size",
            f"the annotation file gives height {height}, width {width}; at most {limits.max_side} a side and "
            f"{limits.max_pixels} pixels are allowed",
        )
    return height, width


def _short(value: Any) -> str:
    return repr(value)[:20]
