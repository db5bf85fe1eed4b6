"""Masks from boxes, points and strokes."""

from typing import Any

import cv2
import numpy as np
import pytest

from fss.inference.inputs import read_support_mask
from fss.inference.prompts import Prompt

SHAPE = (160, 200)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a picture of a red and a blue disc, and the masks of both."""
    red, blue = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    cv2.circle(red, (60, 80), 35, 1, -1)
    cv2.circle(blue, (150, 90), 25, 1, -1)
    rgb = np.random.default_rng(0).integers(90, 120, (*SHAPE, 3)).astype(np.uint8)
    rgb[red == 1], rgb[blue == 1] = (210, 40, 40), (30, 50, 200)
    return rgb, red, blue


RGB, RED, BLUE = scene()
RED_BOX, BLUE_BOX = (22, 42, 98, 118), (122, 62, 178, 118)


def line(*points: tuple[int, int]) -> np.ndarray:
    strokes = np.zeros(SHAPE, np.uint8)
    cv2.polylines(strokes, [np.array(points)], False, 255, 3)
    return strokes


@pytest.mark.parametrize(
    ("value", "objects"),
    [
        (RED_BOX, RED),
        (np.array(RED_BOX), RED),
        ([RED_BOX, BLUE_BOX], RED | BLUE),
        (Prompt(boxes=[(20, 40, 180, 120)], points=[(60, 80)], not_points=[(150, 90)]), RED),
        (Prompt(points=[(60, 80)]), RED),
        (Prompt(points=[(60, 80), (150, 90)]), RED | BLUE),
        (Prompt(points=[(150, 90)], not_points=[(60, 80)]), BLUE),
        (Prompt(boxes=[RED_BOX], points=[(150, 90)]), RED | BLUE),
        (Prompt(strokes=line((40, 80), (80, 85))), RED),
        (Prompt(strokes=line((40, 80), (80, 85)), not_strokes=line((150, 75), (150, 105))), RED),
        (Prompt(boxes=[BLUE_BOX], strokes=line((40, 80), (80, 85))), RED | BLUE),
    ],
)
def test_the_mask_is_the_object_that_was_pointed_at(value: Any, objects: np.ndarray) -> None:
    made = read_support_mask(value, RGB)
    assert not made.notes
    assert (made.mask & objects).sum() / (made.mask | objects).sum() > 0.9


def test_a_box_may_be_filled_and_the_mask_ends_at_the_picture() -> None:
    made = read_support_mask(Prompt(boxes=[(-5, -5, 30.4, 20), (190, 150, 300, 300)], filled=True), RGB)
    expected = np.zeros(SHAPE, np.uint8)
    expected[:20, :30] = expected[150:, 190:] = 1
    np.testing.assert_array_equal(made.mask, expected)


def test_a_box_of_a_larger_picture_says_so() -> None:
    assert not read_support_mask(Prompt(boxes=[(-5, -5, 30, 20)], filled=True), RGB).notes
    (note,) = read_support_mask(Prompt(boxes=[(20, 20, 300, 100)], filled=True), RGB).notes
    assert "the box 20,20,300,100 reaches outside of its picture of 200 x 160 pixels" in note
    corner = read_support_mask(Prompt(points=[(0, 0), (0, 1.5)]), RGB)
    assert corner.mask[0, 0] == corner.mask[1, 0] == 1


def test_a_box_around_the_whole_picture_is_looked_into_as_well() -> None:
    made = read_support_mask((0, 0, 200, 160), np.where(BLUE[..., None] == 1, np.uint8(120), RGB))
    assert (made.mask & RED).sum() > 0.9 * RED.sum()
    assert made.mask.mean() < 0.5


def test_a_box_in_which_nothing_stands_out_is_the_mask_and_says_so() -> None:
    plain = np.full((*SHAPE, 3), 130, np.uint8)
    made = read_support_mask((20, 30, 80, 90), plain)
    assert made.mask.sum() == 3600
    assert "no object stands out in the box 20,30,80,90" in made.notes[0]
    assert read_support_mask((20, 30, 25, 34), RGB).mask.sum() == 20, "a tiny box is all object"


def test_a_mask_of_strokes_or_of_the_background_asks_whether_it_is_meant_as_such() -> None:
    made = read_support_mask(line((40, 80), (80, 85)), RGB)
    assert made.mask.sum() < 300, "a mask is taken as it is"
    assert "give PICTURE:@MASK" in made.notes[0]
    dots = line((40, 40), (41, 40)) | line((80, 80), (81, 80)) | line((90, 20), (91, 20))
    (inverted,) = read_support_mask(1 - RED, RGB).notes
    assert "marks" in inverted and "the whole border; if the object is black in it, invert it" in inverted
    assert not read_support_mask(np.ones(SHAPE, np.uint8), RGB).notes
    assert not any(read_support_mask(mask, RGB).notes for mask in (RED, BLUE, RED | BLUE, dots))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((0, 0, np.inf, 9), "finite numbers"),
        ((30, 20, 10, 5), "contains no pixel of a picture of 200 x 160 pixels"),
        ([RED_BOX, (300, 20, 310, 50)], "contains no pixel"),
        (Prompt(points=[(200, 10)]), "must be x, y in a picture of 200 x 160 pixels"),
        (Prompt(points=[(20, 10)], not_points=[(20, 10)]), "on the object and beside it at once"),
        (Prompt(strokes=np.zeros((5, 5), np.uint8)), "must have its picture's size"),
        ((0.1, 0.25, 0.9, 1.0), "in pixels, not in shares of the sides, which would be 20, 40, 180, 160"),
        (Prompt(points=[(0.5, 0.25)]), "in pixels, not in shares of the sides, which would be 100, 40"),
    ],
)
def test_prompts_outside_the_picture_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_support_mask(value, RGB)


def test_a_prompt_says_what_it_consists_of() -> None:
    prompt = Prompt(boxes=[RED_BOX], points=[(1, 2), (3, 4)], not_points=[(5, 6)])
    assert str(prompt) == "1 box, 2 points, hints beside it"
    with pytest.raises(ValueError, match="must have a box, a point or a stroke on the object"):
        Prompt(not_points=[(1, 2)])
    with pytest.raises(ValueError, match=r"points must be a list, such as \[\(50, 40\)\], got \[50, 40\]"):
        Prompt(points=[50, 40])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"boxes must consist of numbers, such as \[\(10, 20, 90, 80\)\], got"):
        Prompt(boxes=[("1", "2", "30", "40")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="filled must be True or False, got 'no'"):
        Prompt(boxes=[RED_BOX], filled="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="filled is for boxes"):
        Prompt(points=[(1, 2)], filled=True)
