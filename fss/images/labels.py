"""The reader of label pictures: encoded bytes and their declared meaning become an index mask, or a reason.

Three meanings exist. In a :class:`Binary` mask, an object is told from its background by value, colour or opacity. In
an :class:`Index` mask, the value of a pixel is its class id. In a picture with a :class:`ColorTable`, its colour is.
Every source and the supports of a prediction read their masks here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Mask
from fss.images.binary_labels import object_plane
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, decode_label_picture, unpack_color
from fss.images.label_shapes import step_values
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import from_class_map

_LISTED = 5  # values or colours in a reason


@dataclass(frozen=True, kw_only=True)
class Binary:
    """One object and its background."""

    class_id: int = 1
    """Class id of the object."""
    any_value: bool = False
    """Whether a single value other than 0 marks the object, whatever it is. Otherwise a small one, which may be a class
    id, is a reason to refuse the mask."""
    unsure: bool = False
    """Whether 128 beside 255 means ignored pixels, whatever its shape."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """The value of a pixel is its class id; a palette has no meaning."""

    background: int | None = 0
    """Value that stands for no class; None if every value is a class."""
    void: Sequence[int] = (IGNORE,)
    """Values to ignore."""
    class_ids: frozenset[int] | None = None
    """Values that are classes; None allows every value."""
    translation: Mapping[int, int] = field(default_factory=dict)
    """Class id by value; other values stay as they are."""


@dataclass(frozen=True, kw_only=True)
class ColorTable:
    """The colour of a pixel stands for its class."""

    class_ids: Mapping[tuple[int, int, int], int]
    """Class id by colour (red, green, blue)."""
    background: int | None = 0
    """Class id that stands for no class; None if every colour is a class."""
    void: Sequence[int] = (IGNORE,)
    """Class ids to ignore."""


Meaning = Binary | Index | ColorTable


@dataclass(frozen=True, kw_only=True)
class LabelMask:
    """A mask that was read from a label picture."""

    mask: Mask
    """Index mask, uint8 [H, W]."""
    class_ids: tuple[int, ...]
    """``class_ids[v - 1]`` is the class of mask value v."""
    upright: bool = False
    """Whether an EXIF orientation of the mask's own file was applied."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Number of objects of an annotation that are not in the mask, by reason."""


def read_labels(data: bytes, meaning: Meaning, limits: DecodeLimits | None = None) -> LabelMask:
    """Read a label picture.

    Raises:
        DecodeError: the picture cannot be decoded, or does not have the declared meaning. Besides the reasons of
            :class:`DecodeError`, these are not-binary, class-ids, ambiguous, several-frames, colors, lossy, smoothed,
            all-void, unknown-class, unknown-color and transparent.
    """
    return interpret_labels(decode_label_picture(data, limits), meaning)


def interpret_labels(picture: LabelPicture, meaning: Meaning) -> LabelMask:
    """Return the mask that a decoded label picture shows.

    Raises:
        DecodeError: the picture does not have the declared meaning.
    """
    upright = picture.orientation != 1
    if isinstance(meaning, Binary):
        plane = object_plane(picture, any_value=meaning.any_value, unsure=meaning.unsure)
        class_ids = (meaning.class_id,) if (plane == 1).any() else ()
        return LabelMask(mask=plane, class_ids=class_ids, upright=upright)
    if isinstance(meaning, Index):
        values = _translate(_index_values(picture, meaning), meaning.translation)
        known = meaning.class_ids
    else:
        values, known = _color_ids(picture, meaning.class_ids, meaning.background), None
    mask, ids = class_map_labels(values, background=meaning.background, void=meaning.void, class_ids=known)
    return LabelMask(mask=mask, class_ids=ids, upright=upright)


def class_map_labels(
    values: NDArray[Any], *, background: int | None, void: Sequence[int], class_ids: frozenset[int] | None = None
) -> tuple[Mask, tuple[int, ...]]:
    """Convert a map of class ids, integers [H, W], to an index mask, uint8 [H, W], and its class ids.

    Raises:
        DecodeError: a value is not among ``class_ids``, there are too many classes, or every label is void.
    """
    try:
        mask, ids = from_class_map(values, background=background, void=void)
    except ValueError as error:
        raise DecodeError("unknown-class", str(error)) from error
    unknown = [] if class_ids is None else [value for value in ids if value not in class_ids]
    if unknown:
        raise DecodeError(
            "unknown-class",
            f"the values {_some(unknown)} stand for no class; the classes are {_some(sorted(class_ids or ()))}",
        )
    if not ids and (mask == IGNORE).any():
        raise DecodeError(
            "all-void",
            f"every label is ignored (void is {_some(sorted(void))}); give --source.masks binary if the value marks an "
            "object, or --source.void with the value that means no label",
        )
    return mask, tuple(ids)


def _index_values(picture: LabelPicture, meaning: Index) -> NDArray[Any]:
    """Return the class id of every pixel, after checks that the values can be class ids."""
    if picture.lossy:
        raise DecodeError("lossy", "this format changes values, so class ids are lost; save the masks as PNG")
    values = picture.values
    if values is None:
        raise DecodeError(
            "colors",
            "the mask has colours instead of one class id per pixel; give --source.colors FILE with a line "
            "NAME:RED,GREEN,BLUE per class",
        )
    background = -1 if meaning.background is None else meaning.background
    if picture.palette is None and picture.alpha is not None and (values[picture.alpha == 0] != background).any():
        raise DecodeError("transparent", "class ids lie under transparent pixels; save the masks without transparency")
    _check_not_smoothed(values)
    return values


def _check_not_smoothed(values: NDArray[Any]) -> None:
    """Refuse a mask that was resized smoothly, or was a JPEG: values between others at most of their borders."""
    if int(values.min()) < 0 or int(values.max()) > 65535:
        return
    if between := step_values(values):
        raise DecodeError(
            "smoothed",
            f"the values {_some(between)} lie between others at their borders, so the mask was resized with "
            "interpolation, or was a JPEG once; resize masks by nearest neighbour, and save them as PNG from the start",
        )


def _translate(values: NDArray[Any], translation: Mapping[int, int]) -> NDArray[Any]:
    if not translation:
        return values
    low, high = min(translation), max(translation)
    table = np.arange(low, high + 1, dtype=np.int32)
    for value, class_id in translation.items():
        table[value - low] = class_id
    wide = values.astype(np.int32)
    return np.where((wide >= low) & (wide <= high), table[wide.clip(low, high) - low], wide)


def _color_ids(
    picture: LabelPicture, class_ids: Mapping[tuple[int, int, int], int], background: int | None
) -> NDArray[np.int32]:
    """Return the class id of every pixel by its colour; transparent pixels of no class are background."""
    if picture.lossy:
        raise DecodeError("lossy", "this format changes colours, so classes are lost; save the masks as PNG")
    packed = picture.packed_colors
    keys = np.array(sorted(red << 16 | green << 8 | blue for red, green, blue in class_ids), np.int32)
    ids = np.array([class_ids[unpack_color(int(key))] for key in keys], np.int32)
    positions = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
    unknown = keys[positions] != packed
    values = ids[positions]
    if picture.alpha is not None and (clear := picture.alpha == 0).any():
        if background is None or (~unknown & (values != background))[clear].any():
            raise DecodeError(
                "transparent", "classes lie under transparent pixels; save the masks without transparency"
            )
        values, unknown = np.where(clear, background, values), unknown & ~clear
    if unknown.any():
        colors = [unpack_color(int(color)) for color in np.unique(packed[unknown])]
        raise DecodeError(
            "unknown-color",
            f"{int(unknown.sum())} pixels have colours that the table lacks: {_some(colors)}; add them to the table"
            + (
                "; so many colours come from interpolation, so resize masks by nearest neighbour"
                if len(colors) > 16
                else ""
            ),
        )
    return np.asarray(values, np.int32)


def _some(values: Sequence[Any]) -> str:
    text = ", ".join(map(str, values[:_LISTED]))
    return f"{text} and {len(values) - _LISTED} more" if len(values) > _LISTED else text
