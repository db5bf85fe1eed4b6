"""Class numbers: to and from the masks of a collection, and at a smaller size."""

import numpy as np
import pytest

from fss.collection.class_map import ClassTable, shrink_image, shrink_labels
from fss.images.mask_codec import from_class_map


def entries(class_ids: list[int]) -> list[dict[str, int]]:
    return [{"id": class_id, "pixels": 1} for class_id in class_ids]


def test_background_is_number_0_beside_the_classes() -> None:
    table = ClassTable([3, 9])
    assert table.background and table.ids == (0, 3, 9) and len(table) == 3
    class_map = np.array([[0, 9, 255], [3, 3, 0]])
    mask, class_ids = from_class_map(class_map)
    labels = table.to_labels(mask, entries(class_ids))
    assert labels.tolist() == [[0, 2, 255], [1, 1, 0]]
    back, ids = table.to_mask(labels)
    assert np.array_equal(back, mask) and ids == class_ids


def test_where_id_0_is_a_class_there_is_no_background() -> None:
    table = ClassTable([0, 1, 2])
    assert not table.background and len(table) == 3
    mask, class_ids = from_class_map(np.array([[0, 2, 255]]), background=None)
    labels = table.to_labels(mask, entries(class_ids))
    assert labels.tolist() == [[0, 2, 255]]
    assert table.to_mask(labels)[1] == [0, 2]


def test_invalid_classes_are_rejected() -> None:
    with pytest.raises(ValueError, match="has no classes"):
        ClassTable([])
    with pytest.raises(ValueError, match="at most 255"):
        ClassTable(range(300))
    with pytest.raises(ValueError, match="has class 7"):
        ClassTable([1]).to_labels(np.ones((2, 2), np.uint8), entries([7]))


def test_smaller_by_means_and_by_majority() -> None:
    labels = np.array([[1, 1, 255, 2], [1, 2, 255, 255]], np.uint8)
    assert shrink_labels(labels, 2).tolist() == [[1, 255]]
    picture = np.array([[[0, 0, 0], [100, 0, 0]], [[100, 0, 0], [200, 0, 0]]], np.uint8)
    assert shrink_image(picture, 2).tolist() == [[[100, 0, 0]]]
    assert shrink_labels(labels, 1) is labels and shrink_image(picture, 1) is picture
