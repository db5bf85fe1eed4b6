"""Segmenting a photograph by example."""

import numpy as np
import pytest

from fss.models import create_segmenter
from fss.predict import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(create_segmenter(backbone="resnet18", image_size=96))


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8), mask


def test_mask_has_the_querys_size_whatever_the_supports_are(predictor: Predictor) -> None:
    query, _ = picture(90, 130)
    mask = predictor.predict(query, [picture(50, 40), picture(200, 64)])
    assert mask.shape == (90, 130)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


def test_marking_with_255_is_the_same_as_with_1(predictor: Predictor) -> None:
    query, mask = picture(64, 64)
    ones = predictor.predict(query, [(query, mask)])
    assert (ones == predictor.predict(query, [(query, mask * np.uint8(255))])).all()


def test_refuses_what_it_cannot_answer(predictor: Predictor) -> None:
    query, mask = picture(64, 64)
    with pytest.raises(ValueError, match="at least one support"):
        predictor.predict(query, [])
    with pytest.raises(ValueError, match="marks nothing"):
        predictor.predict(query, [(query, mask * 0)])
    with pytest.raises(ValueError, match="its picture's size"):
        predictor.predict(query, [(query, mask[:10])])
    with pytest.raises(ValueError, match="RGB"):
        predictor.predict(query[..., 0], [(query, mask)])
