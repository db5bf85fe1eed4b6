"""Pictures and masks in every supported form become the same arrays."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fss.images.decode_errors import DecodeError
from fss.inference.inputs import read_mask, read_picture
from tests.helpers.bad_files.formats import encoded, picture

RGB = np.asarray(picture())
SHAPE = RGB.shape[:2]
MASK = np.zeros(SHAPE, np.uint8)
MASK[5:20, 10:30] = 1


def test_a_picture_of_any_kind_is_the_same_picture(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(encoded("PNG"))
    tensor = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
    kinds = [tmp_path / "p.png", str(tmp_path / "p.png"), encoded("PNG"), picture(), RGB, tensor]
    kinds += [RGB.astype(np.float32) / 255, tensor.float() / 255, np.dstack([RGB, np.full(SHAPE, 255, np.uint8)])]
    for kind in kinds:
        np.testing.assert_array_equal(read_picture(kind), RGB)


def test_grey_and_turned_pictures() -> None:
    grey = RGB[..., 0]
    for kind in (grey, grey[..., None], torch.from_numpy(grey.copy())[None]):
        np.testing.assert_array_equal(read_picture(kind), np.repeat(grey[..., None], 3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(encoded("PNG", exif=exif)))
    assert read_picture(turned).shape[:2] == SHAPE[::-1]


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4, 2), np.uint8), RGB.astype(np.int32), np.full((4, 4, 3), 2.0), np.zeros((0, 4, 3), np.uint8)],
)
def test_invalid_pictures_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a picture must be \[H,W,3\]"):
        read_picture(wrong)


@pytest.mark.parametrize("wrong", [None, 7, ["a.jpg"]])
def test_what_is_no_picture_is_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=f"an array or a tensor, got {type(wrong).__name__}"):
        read_picture(wrong)  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.jpg: No such file"):
        read_picture(tmp_path / "none.jpg")


@pytest.mark.parametrize("read", [read_picture, lambda image: read_mask(image, SHAPE)])
def test_a_damaged_file_that_pil_opened_is_refused_when_its_pixels_are_read(read: Callable[[Image.Image], Any]) -> None:
    data = encoded("JPEG", picture().resize((400, 300)))
    with pytest.raises(DecodeError, match="truncated: the file ends before its pixels do"):
        read(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_a_mask_of_any_kind_is_the_same_mask(tmp_path: Path) -> None:
    grey = Image.fromarray(MASK * 255)
    (tmp_path / "m.png").write_bytes(encoded("PNG", grey))
    kinds = [MASK, MASK > 0, MASK * 255, MASK * 7, MASK.astype(float), torch.from_numpy(MASK), grey, grey.convert("1")]
    kinds += [tmp_path / "m.png", encoded("PNG", grey.convert("RGB")), torch.from_numpy(MASK)[None], MASK[..., None]]
    kinds += [MASK * 255.0, MASK.astype(np.uint16) * 65535, torch.from_numpy(MASK).bfloat16()]
    for kind in kinds:
        np.testing.assert_array_equal(read_mask(kind, SHAPE), MASK)


def test_ignored_and_soft_borders() -> None:
    ignored = MASK.copy()
    ignored[4] = 255
    np.testing.assert_array_equal(read_mask(ignored, SHAPE), MASK)
    soft = MASK * 255
    soft[4, 10:30], soft[20, 10:30] = 90, 1
    np.testing.assert_array_equal(read_mask(soft, SHAPE), MASK)


def test_a_mask_of_several_objects_is_their_union() -> None:
    objects = MASK.copy()
    objects[5:20, 20:30] = 3
    objects[25:30, 30:40] = 2
    objects[0] = 255
    union = ((objects > 0) & (objects < 255)).astype(np.uint8)
    palette = Image.fromarray(objects)
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200] + [0] * (3 * 251) + [224, 224, 192])
    for kind in (objects, palette, encoded("PNG", palette), encoded("PNG", palette.convert("RGB"))):
        np.testing.assert_array_equal(read_mask(kind, SHAPE), union)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK * 0, "marks no pixel"),
        (MASK[:10], rf"size of {SHAPE[1]} x {SHAPE[0]} pixels \(width x height\), got {SHAPE[1]} x 10; give the mask"),
        (np.ascontiguousarray(MASK.T), "turn it as the EXIF orientation says"),
        (MASK * 1.5, "floats must lie in 0..1 or hold whole numbers"),
        (MASK + np.arange(SHAPE[1], dtype=np.uint8), "set the objects to 1"),
        (RGB, "colours"),
        (np.full(SHAPE, np.nan), "floats must lie in"),
        ("a", "No such file"),
        (7, "a box of four numbers, a list of boxes or a Prompt, got int"),
        (MASK.astype(int) * 2 - np.eye(*SHAPE, dtype=int), "set the objects to 1"),  # -1 may be ignored pixels
        (np.dstack([MASK * 256.0] * 3).astype(int), r"the colours of a mask must lie in 0\.\.255, got 0\.\.256"),
    ],
)
def test_invalid_masks_are_refused(mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mask(mask, SHAPE)  # type: ignore[arg-type]
