"""Painting of the objects of an annotation as an index mask."""

from collections.abc import Mapping, Sequence

import numpy as np

from fss.collection.annotations.base import AnnotatedImage
from fss.collection.class_names import BACKGROUND
from fss.core.arrays import IGNORE, BoolArray, Mask
from fss.images.decode_errors import DecodeError
from fss.images.mask_codec import MAX_CLASSES


def paint(
    image: AnnotatedImage, size: tuple[int, int], class_ids: Mapping[tuple[str, int | None], int | None]
) -> tuple[Mask, list[int], list[str]]:
    """Paint the objects of a photograph; ignored pixels cover everything, and single objects cover crowds.

    Args:
        image: photograph with its objects.
        size: height and width of the photograph.
        class_ids: class id by label and category; ``BACKGROUND`` for no class, and None for ignored pixels.

    Returns:
        Index mask, uint8 [H,W], its class ids in ascending order, and the objects that are left out.

    Raises:
        DecodeError: the file gives the photograph another size, or the objects have too many classes.
    """
    if image.size is not None and image.size != size:
        raise DecodeError("size-mismatch", f"the file says {image.size}, the photograph is {size} (height, width)")
    used = {class_ids[shape.label, shape.category] for shape in image.shapes}
    ids = sorted(class_id for class_id in used if class_id is not None and class_id != BACKGROUND)
    if len(ids) > MAX_CLASSES:
        raise DecodeError("too-many-classes", f"a mask holds at most {MAX_CLASSES} classes, got {len(ids)}")
    values = {BACKGROUND: 0, **{class_id: value for value, class_id in enumerate(ids, start=1)}}
    mask = np.zeros(size, np.uint8)
    areas = np.full(size, np.iinfo(np.int32).max, np.int32)  # of the object that a pixel shows
    ignored, crowds = np.zeros(size, bool), np.zeros(size, bool)
    problems = list(image.problems)
    for number, shape in enumerate(image.shapes):
        try:
            region = shape.decode(*size)
        except DecodeError as error:
            problems.append(f"object {number} ({shape.label}): {error}")
            continue
        class_id = class_ids[shape.label, shape.category]
        if class_id is None or shape.crowd:
            (ignored if class_id is None else crowds)[region] = True
            continue
        box = _box(region)
        shown = region[box]
        if image.small_on_top:
            area = int(np.count_nonzero(shown))
            shown = shown & (area <= areas[box])
            areas[box][shown] = area
        mask[box][shown] = values[class_id]
    mask[ignored | (crowds & (mask == 0))] = IGNORE
    return *_without_hidden(mask, ids), problems


def _box(region: BoolArray) -> tuple[slice, slice]:
    """Return the rows and columns of a mask, bool [H,W], that its pixels span."""
    rows = np.flatnonzero(region.any(1))
    if not len(rows):
        return slice(0), slice(0)
    band = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(region[band].any(0))
    return band, slice(int(columns[0]), int(columns[-1]) + 1)


def _without_hidden(mask: Mask, ids: Sequence[int]) -> tuple[Mask, list[int]]:
    """Return an index mask without the classes that other objects cover completely."""
    counts = np.bincount(mask.ravel(), minlength=256)
    visible = [class_id for value, class_id in enumerate(ids, start=1) if counts[value]]
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for value, class_id in enumerate(ids, start=1):
        table[value] = visible.index(class_id) + 1 if class_id in visible else 0
    return table[mask], visible
