"""Where a training of MaskSplit's network starts."""

import pytest
import torch

from fss.models import create_segmenter


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_the_first_guess_is_a_small_object_whatever_the_width(width: int) -> None:
    network = create_segmenter(backbone="resnet18", image_size=96, width=width)
    generator = torch.Generator().manual_seed(0)
    query, support = (torch.rand(2, *shape, generator=generator) for shape in ((3, 96, 96), (1, 3, 96, 96)))
    shown = torch.zeros(2, 1, 96, 96, dtype=torch.long)
    shown[..., 30:60, 30:60] = 1
    with torch.no_grad():
        share = network(query, support, shown).softmax(1)[:, 1].mean()
    assert 0.005 < share < 0.35, "from one half, every channel for the object may die in the first steps"
