"""Extensions of MaskSplit's network: other widths, and similarities of query and support as input."""

import pytest
import torch

from fss.models import create_segmenter


def test_similarities_follow_the_support() -> None:
    segmenter = create_segmenter(backbone="resnet18", image_size=96, width=32, similarity=True).eval()
    query, support = torch.randn(2, 3, 96, 96), torch.randn(2, 1, 3, 96, 96)
    masks = torch.zeros(2, 1, 96, 96)
    masks[:, :, :48] = 1
    logits = segmenter(query, support, masks)
    assert logits.shape == (2, 2, 96, 96)
    assert not torch.allclose(logits, segmenter(query, support, 1 - masks))


def test_several_shots_are_pooled_jointly() -> None:
    segmenter = create_segmenter(backbone="resnet18", image_size=96, width=32, similarity=True).eval()
    query, support, masks = torch.randn(1, 3, 96, 96), torch.randn(1, 1, 3, 96, 96), torch.ones(1, 1, 96, 96)
    once = segmenter.predict(query, support, masks, fusion="joint")
    twice = segmenter.predict(query, support.expand(-1, 2, -1, -1, -1), masks.expand(-1, 2, -1, -1), fusion="joint")
    assert torch.equal(once, twice)


def test_a_width_that_the_normalisations_cannot_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 32"):
        create_segmenter(backbone="resnet18", width=40)
