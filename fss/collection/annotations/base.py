"""Types and functions that all formats of annotations share.

Files hold the very pixels of a mask, one object per class. Photographs are named relative to an image root. Ignored
pixels are an object with the label ``ignore``, which no class may have.

A file to read is untrusted: a faulty object becomes a problem of its photograph, and the other objects stay.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fss.collection.mask_export import ExportedMask
from fss.collection.sources.coco_categories import IGNORE_LABEL
from fss.collection.sources.coco_file import whole_number
from fss.core import storage
from fss.core.arrays import IGNORE, BoolArray
from fss.core.extras import install_command
from fss.core.json_values import parse_json
from fss.images.decode_errors import DecodeError
from fss.images.outlines import decode_outline, encode_outline

Write = Callable[[bytes], Any]
"""Receives a file piece by piece, so that only the masks of one photograph are in memory."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One object of an annotation."""

    label: str
    """Name of its class."""
    category: int | None = None
    """Id of its class in the file, if there is one."""
    crowd: bool = False
    """Whether it is a crowd: its pixels are ignored where no other object covers them."""
    decode: Callable[[int, int], BoolArray]
    """Returns the mask, bool [H,W], for the height and width of the photograph; raises DecodeError."""


@dataclass(kw_only=True)
class AnnotatedImage:
    """The objects of one photograph."""

    name: str
    """Name or path of the photograph."""
    image_id: str | None = None
    """Image id, if the file has one."""
    size: tuple[int, int] | None = None
    """Height and width of the photograph according to the file; None if it says nothing."""
    shapes: list[Shape] = field(default_factory=list)
    """Objects; later ones cover earlier ones."""
    small_on_top: bool = False
    """Whether smaller objects cover larger ones instead."""
    problems: list[str] = field(default_factory=list)
    """Objects that are left out, and why."""
    skipped: str | None = None
    """Reason why the photograph has no annotation."""
    error: str | None = None
    """Reason why its objects cannot be told."""


@dataclass(kw_only=True)
class AnnotationFile:
    """Content of an annotation file."""

    images: list[AnnotatedImage] = field(default_factory=list)
    """Photographs in the order of the file."""
    problems: list[str] = field(default_factory=list)
    """Entries that belong to no photograph, and why they are left out."""
    notes: list[str] = field(default_factory=list)
    """What a user should know about the file."""


def class_labels(class_ids: Iterable[int], class_names: Mapping[int, str]) -> dict[int, str]:
    """Return a label for each class id; a class without a name is labelled by its id, such as ``class 7``.

    Raises:
        ValueError: a class has the label that is reserved for ignored pixels.
    """
    names = {class_id: class_names.get(class_id, f"class {class_id}") for class_id in sorted(class_ids)}
    reserved = [class_id for class_id, name in names.items() if name == IGNORE_LABEL]
    if reserved:
        raise ValueError(
            f"class {reserved[0]} is named {IGNORE_LABEL!r}, the label of ignored pixels; export with "
            "--form png --values class"
        )
    return names


def check_unique(labels: Mapping[int, str]) -> None:
    """Check that every label stands for one class.

    Raises:
        ValueError: two classes have the same label.
    """
    for label, count in Counter(labels.values()).items():
        if count > 1:
            ids = [class_id for class_id, name in labels.items() if name == label]
            raise ValueError(
                f"the classes {ids} are all named {label!r}, so their labels could not be told apart; export with "
                "--form coco, or --form png --values class"
            )


def regions(exported: ExportedMask) -> Iterator[tuple[int | None, BoolArray]]:
    """Yield every class of a mask with its pixels, bool [H,W], and the ignored pixels with None; none is empty."""
    counts = np.bincount(exported.mask.ravel(), minlength=256)
    for value, class_id in [*enumerate(exported.classes, start=1), (IGNORE, None)]:
        if counts[value]:
            yield class_id, exported.mask == value


def set_size(image: AnnotatedImage, height: Any, width: Any) -> None:
    """Set the size of a photograph as a file gives it, or the error that it is no size."""
    if height is None and width is None:
        return
    sides = whole_number(height), whole_number(width)
    if sides[0] is None or sides[1] is None:
        image.error = f"bad-size: the file gives the height {str(height)[:20]!r} and the width {str(width)[:20]!r}"
        return
    image.size = sides[0], sides[1]


def unsized_note(images: Iterable[AnnotatedImage]) -> list[str]:
    """Return a note on photographs whose size the file does not give."""
    sized = [image.size is not None or image.error is not None for image in images]
    text = f"the file gives the size of {sum(sized)} of {len(sized)} photographs, so outlines on the others may not fit"
    return [f"{text}; look at some with fss inspect --sheet"] * (not all(sized))


def fill_polygons(parts: list[list[float]], height: int, width: int) -> BoolArray:
    """Return the mask, bool [H,W], of polygons ``[x1, y1, x2, y2, ...]`` in pixels, as a COCO source paints them.

    Raises:
        DecodeError: pycocotools is missing, or the polygons are malformed or enclose no pixel.
    """
    try:
        code, _ = encode_outline(parts, height, width)
    except ImportError as error:
        raise DecodeError("no-pycocotools", f"polygons need pycocotools: {install_command('coco')}") from error
    return decode_outline(code)


def read_json(uri: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: it is no valid JSON.
    """
    return parse_json(storage.read_bytes(uri), uri)


def string_or_none(value: Any) -> str | None:
    """Return a value if it is a string."""
    return value if isinstance(value, str) else None
