"""The initial prediction of MaskSplit's network."""

import pytest
import torch

from fss.models import create_segmenter


@pytest.mark.parametrize("width", [32, 128])
def test_the_initial_prediction_is_a_small_object_for_every_width(width: int) -> None:
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=80, width=width)
    generator = torch.Generator().manual_seed(0)
    query, support = (torch.rand(2, *shape, generator=generator) for shape in ((3, 80, 80), (1, 3, 80, 80)))
    masks = torch.zeros(2, 1, 80, 80, dtype=torch.long)
    masks[..., 25:50, 25:50] = 1
    with torch.no_grad():
        share = network(query, support, masks).softmax(1)[:, 1].mean()
    assert 0.005 < share < 0.35, "from one half, the first steps may set all foreground channels to zero"
