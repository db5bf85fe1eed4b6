import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fss.images.mask_codec import (
    binary_mask,
    decode_mask,
    decode_soft,
    encode_mask,
    encode_soft,
    from_class_map,
    mask_row,
)

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
masks = shapes.flatmap(lambda shape: arrays(np.uint8, shape))


@given(masks)
def test_masks_come_back_exactly(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


@given(shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(0, 1, width=32))))
def test_soft_masks_come_back_within_half_a_step(soft: np.ndarray) -> None:
    back = decode_soft(encode_soft(soft))
    assert back.dtype == np.float32
    assert np.abs(back - soft).max() <= 1 / 510 + 1e-6


class_maps = shapes.flatmap(lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 3, 7, 255, 300, 65535])))


@given(class_maps)
def test_class_maps_split_into_the_masks_of_their_classes(class_map: np.ndarray) -> None:
    mask, class_ids = from_class_map(class_map)
    row = mask_row("x", mask, class_ids)
    assert {entry["id"]: entry["pixels"] for entry in row["classes"]} == {
        value: int((class_map == value).sum()) for value in np.unique(class_map) if value not in (0, 255)
    }
    for class_id in (3, 7, 300, 65535, 1):
        expected = np.where(class_map == 255, 255, class_map == class_id)
        np.testing.assert_array_equal(binary_mask(decode_mask(row["mask"]), row["classes"], class_id), expected)


def test_a_map_without_background_keeps_class_0() -> None:
    mask, class_ids = from_class_map(np.array([[0, 4, 11]]), background=None, void=(11,))
    assert class_ids == [0, 4]
    assert mask.tolist() == [[1, 2, 255]]


def test_bare_class_ids_will_do() -> None:
    assert binary_mask(np.array([[0, 1, 2, 255]], np.uint8), [9, 4], 4).tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode_mask(np.zeros((2, 2), np.int32)), "uint8"),
        (lambda: encode_mask(np.zeros((2, 2, 3), np.uint8)), "uint8"),
        (lambda: encode_soft(np.full((2, 2), 1.5, np.float32)), "0, 1"),
        (lambda: encode_soft(np.full((2, 2), np.nan, np.float32)), "0, 1"),
        (lambda: decode_mask(b""), "8-bit grey PNG"),
        (lambda: decode_mask(b"not a png"), "8-bit grey PNG"),
        (lambda: from_class_map(np.arange(300)[None]), "at most 254"),
        (lambda: from_class_map(np.array([[-1]])), "0..65535"),
        (lambda: mask_row("x", np.full((2, 2), 2, np.uint8), [5]), "value 2, but there are 1"),
        (lambda: mask_row("x", None), "neither a mask nor an error"),
    ],
)
def test_what_is_no_mask_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_the_full_range_of_values_fits() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    row = mask_row("x", mask, list(range(1000, 1254)))
    assert len(row["classes"]) == 254
    assert int(binary_mask(mask, row["classes"], 1253).sum()) == 1 + 255  # its pixel and the ignored one
