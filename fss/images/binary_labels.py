"""The object of a binary mask, told from its background by value, by colour or by opacity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fss.core.arrays import IGNORE, Int32, Mask
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, unpack_color
from fss.images.label_shapes import adjoins, has_interior

_TRIMAP = 128  # value of unsure pixels between 0 and 255
_STRAY = 0.02  # largest share of a value that compression or a brush left behind, of the object's pixels
_FEW_LEVELS = 32  # a lossless mask with more values was smoothed or compressed, and its rare values mean nothing
_GREY_SHARE = 0.25  # largest share of pixels of a middle grey in a mask
GREY_RANGE = 3  # largest difference of the channels of a grey colour
_COLORS = 16  # a picture with more colours is no mask
VOID_COLOR = (224, 224, 192)  # of PASCAL VOC
_CLASS_IDS = "give --source.masks index if they are class ids"


def object_plane(picture: LabelPicture, *, any_value: bool = False, unsure: bool = False) -> Mask:
    """Return the object of a binary mask: uint8 [H, W] with 1 for the object, 255 for ignored pixels and 0 elsewhere.

    Args:
        picture: decoded label picture.
        any_value: whether a single value other than 0 marks the object, whatever it is.
        unsure: whether 128 beside 255 means ignored pixels, whatever its shape.

    Raises:
        DecodeError: the picture is no binary mask, or its object is ambiguous.
    """
    if picture.alpha is None:
        return _opaque_plane(picture, any_value, unsure or any_value)
    if not picture.alpha.any():
        if _is_constant(picture):
            return np.zeros(picture.shape, np.uint8)
        raise DecodeError("transparent", "every pixel is transparent; save the mask without transparency")
    # Opacity is no class id.
    opacity = _grey_plane(picture.alpha, 255, lossy=picture.lossy, any_value=True, unsure=True)
    if _is_constant(picture):
        return opacity
    try:
        plane = _opaque_plane(picture, any_value, unsure or any_value)
    except DecodeError:  # a cut-out: the photograph within, transparent outside
        return opacity
    if (plane == opacity).all():
        return plane
    raise DecodeError(
        "ambiguous",
        "colours and transparency mark different pixels; save the mask as grey PNG without transparency",
    )


def _is_constant(picture: LabelPicture) -> bool:
    colors = picture.colors.reshape(-1, 3)
    return bool((colors == colors[0]).all())


def _opaque_plane(picture: LabelPicture, any_value: bool, unsure: bool) -> Mask:
    if picture.values is None:
        return _colored_plane(picture.packed_colors)
    if picture.palette is None:
        return _grey_plane(picture.values, picture.full, lossy=picture.lossy, any_value=any_value, unsure=unsure)
    numbers = np.flatnonzero(np.bincount(picture.values.ravel(), minlength=256))
    colors = picture.palette[numbers].astype(int)
    if len(np.unique(colors, axis=0)) < len(numbers):  # the palette does not tell the values apart
        return _grey_plane(picture.values, 255, lossy=picture.lossy, any_value=any_value, unsure=unsure)
    if int((colors.max(1) - colors.min(1)).max()) <= GREY_RANGE:
        return _grey_plane(
            picture.palette[picture.values, 1], 255, lossy=picture.lossy, any_value=any_value, unsure=unsure
        )
    table = np.zeros(256, np.uint8)
    table[numbers] = _classify_colors([tuple(color) for color in colors.tolist()], numbers.tolist())
    return np.asarray(table[picture.values], np.uint8)


def _colored_plane(packed: Int32) -> Mask:
    unique, inverse = np.unique(packed, return_inverse=True)
    if len(unique) > _COLORS:
        raise DecodeError(
            "not-binary",
            f"it has {len(unique)} colours; a binary mask has black and one colour; save it as grey PNG with 0 and 255",
        )
    table = _classify_colors([unpack_color(int(color)) for color in unique], [-1] * len(unique))
    return np.asarray(np.asarray(table, np.uint8)[inverse.reshape(packed.shape)])


def _classify_colors(colors: Sequence[tuple[int, ...]], numbers: Sequence[int]) -> list[int]:
    """Return 0, 1 or 255 for each colour: black is background, and one other colour is the object."""
    planes = [0] * len(colors)
    others = [position for position, color in enumerate(colors) if any(color)]
    if len(others) == 2:
        void = [p for p in others if colors[p] == VOID_COLOR and numbers[p] in (IGNORE, -1)]
        for position in void:
            planes[position] = IGNORE
            others.remove(position)
    if len(others) == 1:
        planes[others[0]] = 1
        return planes
    raise DecodeError(
        "not-binary",
        f"the colours {', '.join(map(str, colors[:5]))} do not tell object and background; a binary mask has black and "
        f"one colour. If they are classes, give --source.masks index (palette numbers) or --source.colors FILE",
    )


def _grey_plane(values: NDArray[Any], full: int, *, lossy: bool, any_value: bool, unsure: bool) -> Mask:
    """Return the object of a mask of grey values, integers [H, W] up to ``full``."""
    if int(values.min()) < 0 or int(values.max()) > full:
        raise DecodeError(
            "not-binary", f"the values lie in {values.min()}..{values.max()}; a binary mask holds 0 and 255"
        )
    levels = np.flatnonzero(np.bincount(values.ravel()))
    listed = ", ".join(str(int(level)) for level in levels[:6]) + (", ..." if len(levels) > 6 else "")
    marks = [int(level) for level in levels if level != 0]
    if not marks:
        return np.zeros(values.shape, np.uint8)
    if not lossy and marks == [1, 255] and not _is_stray(values, 1):
        _check_ring(values, listed)
        return np.where(values == 255, IGNORE, values).astype(np.uint8)
    if not lossy and marks == [_TRIMAP, 255]:
        if not unsure:
            _check_unsure(values)
        return np.where(values == 255, 1, np.where(values == _TRIMAP, IGNORE, 0)).astype(np.uint8)
    if len(marks) == 1:
        if any_value or marks[0] in (1, 255, full) or 2 * marks[0] >= full - 1:
            return np.asarray(values != 0, np.uint8)
        raise DecodeError(
            "class-ids",
            f"the only value besides 0 is {marks[0]}; {_CLASS_IDS}, or --source.masks binary if it marks the object",
        )
    if full > 255 and levels[-1] <= 255:
        full = 255
    _check_two_tones(values, levels, full, listed, lossy=lossy, any_value=any_value)
    if len(levels) == 2 and not lossy:
        return np.asarray(values == levels[1], np.uint8)
    return (2 * values.astype(np.int64) > int(levels[-1])).astype(np.uint8)


def _is_stray(values: NDArray[Any], level: int) -> bool:
    """Return whether a value occurs in a few single pixels only, beside an object of 255."""
    return bool((values == level).sum() <= _STRAY * (values == 255).sum()) and not has_interior(values, level)


def _check_ring(values: NDArray[Any], listed: str) -> None:
    """Check that 1 is the object and 255 is ignored: the object is larger, or has an inside and a ring.

    Without a 0, 1 could be the background of an object of 255, unless 255 marks thin lines only.
    """
    if (values == 0).any():
        is_larger = (values == 1).sum() >= (values == 255).sum()
        is_object = is_larger or (has_interior(values, 1) and adjoins(values, 255, 1))
    else:
        is_object = not has_interior(values, 255)
    if not is_object:
        raise DecodeError(
            "ambiguous",
            f"the values are {listed}, and either 1 or 255 could be the object; give --source.masks index if 255 is "
            "ignored, else save the masks with 0 and 255 only",
        )


def _check_unsure(values: NDArray[Any]) -> None:
    """Check that 128 marks unsure pixels around an object of 255, not another class."""
    smaller = (values == _TRIMAP).sum() <= (values == 255).sum()
    if has_interior(values, _TRIMAP) and not (smaller and adjoins(values, _TRIMAP, 255)):
        raise DecodeError(
            "class-ids",
            f"the values are 0, {_TRIMAP}, 255; {_CLASS_IDS}, or --source.masks binary if 255 is the object and "
            f"{_TRIMAP} is unsure",
        )


def _check_two_tones(
    values: NDArray[Any], levels: NDArray[Any], full: int, listed: str, *, lossy: bool, any_value: bool
) -> None:
    """Refuse several classes, and pictures that are no masks."""
    if 2 * int(levels[-1]) <= full:
        raise DecodeError("class-ids", f"the values are {listed}; {_CLASS_IDS}")
    if len(levels) == 2 and int(levels[-1]) != full:  # object and background, where the greater cannot mean void
        return
    middle = [int(level) for level in levels if 0 < level < full]
    if not lossy and len(levels) <= _FEW_LEVELS and any(has_interior(values, level) for level in middle):
        raise DecodeError("class-ids", f"the values are {listed}; {_CLASS_IDS}")
    grey = ((8 * values.astype(np.int64) > full) & (8 * values.astype(np.int64) < 7 * full)).mean()
    if grey > _GREY_SHARE and not any_value:
        raise DecodeError(
            "not-binary",
            f"{grey:.0%} of the pixels are of a middle grey; a binary mask is black and white. Give "
            "--source.masks none if these are no masks, or --source.masks binary to cut them at one half",
        )
