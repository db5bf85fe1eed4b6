"""The sample collection: the same picture for the same index, masks that fit the objects, every class in its split."""

import random

import cv2
import numpy as np
import pytest

from fss.core.rng import keyed_rng
from fss.synthetic.classes import SPECIES, hsv
from fss.synthetic.picture import (
    KINDS,
    SAMPLE_CLASSES,
    SAMPLE_SPLITS,
    SIDES,
    render_sample_image,
    sample_labelled,
    sample_unlabelled,
)
from fss.synthetic.scene import paint_background, paint_object


def _decoded(jpeg: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("kind", KINDS)
def test_any_picture_alone_equals_the_sequence(kind):
    make = sample_unlabelled if kind == "unlabelled" else sample_labelled
    sequence = list(make(6, 3))
    for index in (5, 0, 3):
        alone = render_sample_image(index, 3, kind)
        assert alone.jpeg == sequence[index].jpeg
        assert alone.relative_path == sequence[index].relative_path == f"{kind}/{index:06d}.jpg"
        np.testing.assert_array_equal(alone.mask, sequence[index].mask)


def test_index_seed_and_kind_each_make_another_picture():
    pictures = [
        render_sample_image(0, 0, "labelled"),
        render_sample_image(1, 0, "labelled"),
        render_sample_image(0, 1, "labelled"),
    ]
    pictures.append(render_sample_image(0, 0, "unlabelled"))
    assert len({picture.jpeg for picture in pictures}) == 4


def test_global_generators_are_neither_read_nor_moved():
    np.random.seed(1)
    random.seed(1)
    first = render_sample_image(2, 0, "labelled")
    numbers, python_numbers = np.random.random(4), random.random()
    np.random.seed(1)
    random.seed(1)
    np.testing.assert_array_equal(np.random.random(4), numbers)
    assert random.random() == python_numbers
    assert render_sample_image(2, 0, "labelled").jpeg == first.jpeg


def test_pictures_and_masks_have_one_size_in_range():
    for picture in [*sample_unlabelled(8, 5), *sample_labelled(8, 5)]:
        rgb = _decoded(picture.jpeg)
        assert rgb.shape[:2] == picture.mask.shape
        assert picture.mask.dtype == np.uint8
        assert all(SIDES[0] <= side <= SIDES[1] for side in picture.mask.shape)
        assert tuple(np.unique(picture.mask[picture.mask > 0])) == picture.classes


def test_unlabelled_pictures_mostly_show_one_base_object():
    pictures = list(sample_unlabelled(150, 0))
    counts = np.bincount([len(picture.classes) for picture in pictures], minlength=3)
    assert len(counts) == 3
    assert counts[1] > 0.72 * len(pictures)
    assert counts[0] > 0 and counts[2] > 0
    assert {number for picture in pictures for number in picture.classes} == set(SAMPLE_SPLITS["base"])


def test_labelled_pictures_show_two_or_three_different_classes_of_both_splits():
    pictures = list(sample_labelled(120, 0))
    base, novel = set(SAMPLE_SPLITS["base"]), set(SAMPLE_SPLITS["novel"])
    for picture in pictures:
        assert len(picture.classes) in (2, 3)
        assert base & set(picture.classes) and novel & set(picture.classes)
    often = np.bincount([number for picture in pictures for number in picture.classes], minlength=17)
    assert (often[sorted(novel)] >= 20).all()
    assert (often[sorted(base)] >= 10).all()


def test_every_object_is_large_enough_to_segment():
    for picture in sample_labelled(60, 7):
        for number in picture.classes:
            assert (picture.mask == number).sum() > 250


def test_sixteen_named_classes_split_without_overlap():
    assert sorted(SAMPLE_CLASSES) == list(range(1, 17))
    assert len(set(SAMPLE_CLASSES.values())) == 16
    assert sorted(SAMPLE_SPLITS["base"] + SAMPLE_SPLITS["novel"]) == sorted(SAMPLE_CLASSES)
    assert len(SAMPLE_SPLITS["base"]) >= 8 and len(SAMPLE_SPLITS["novel"]) >= 4


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_the_mask_is_where_the_object_was_painted(species):
    background = paint_background(keyed_rng(0, item=species.id, purpose="test"), 180, 170)
    picture = background.copy()
    coverage = paint_object(
        picture, species, keyed_rng(1, item=species.id, purpose="test"), centre=(80.0, 95.0), radius=50.0
    )
    assert coverage.shape == (180, 170)
    changed = np.abs(picture - background).max(axis=-1)
    inside, outside = coverage >= 0.5, coverage == 0
    assert 0.05 < inside.mean() < 0.4
    # outside only the shadow falls: the picture may darken, never brighten
    assert (picture - background)[outside].max() < 1e-5
    assert (changed[inside] > 0.02).mean() > 0.9
    y, x = np.nonzero(inside)
    assert np.hypot(x - 80, y - 95).max() < 1.35 * 50


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_individuals_of_a_class_differ_in_outline_and_colour(species):
    masks, colours = [], []
    for individual in range(4):
        picture = np.full((120, 120, 3), 0.5, dtype=np.float32)
        rng = keyed_rng(individual, item=species.id, purpose="test")
        coverage = paint_object(picture, species, rng, centre=(60.0, 60.0), radius=40.0)
        masks.append(coverage >= 0.5)
        colours.append(picture[coverage >= 0.99].mean(axis=0))
    for place in range(1, 4):
        assert (masks[0] ^ masks[place]).sum() > 20
        assert np.abs(colours[0] - colours[place]).max() > 0.004


def test_colours_follow_the_colour_wheel():
    np.testing.assert_allclose(hsv(0, 1, 1), [1, 0, 0])
    np.testing.assert_allclose(hsv(120, 1, 0.5), [0, 0.5, 0])
    np.testing.assert_allclose(hsv(600, 0.5, 1), [0.5, 0.5, 1])


def test_wrong_requests_are_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        render_sample_image(-1, 0, "labelled")
    with pytest.raises(ValueError, match="unlabelled or labelled, got 'train'"):
        render_sample_image(0, 0, "train")
