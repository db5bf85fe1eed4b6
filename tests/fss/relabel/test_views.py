"""Views and their inverse."""

import pytest
import torch

from fss.relabel.views import View, make_views, network_input


def test_every_combination_with_the_unchanged_image_first() -> None:
    views = make_views(flip=True, scales=(0.5, 1.0, 0.5))
    assert views == (View(), View(flip=True), View(scale=0.5), View(flip=True, scale=0.5))
    assert make_views(flip=False, scales=(1.0, 1.5)) == (View(), View(scale=1.5))


@pytest.mark.parametrize("view", [View(), View(flip=True)])
def test_undo_inverts_apply(view: View) -> None:
    maps = torch.rand(2, 1, 8, 8)
    assert torch.equal(view.undo(view.apply(maps), 8), maps)


def test_a_mirrored_view_is_mirrored_and_a_smaller_one_smaller() -> None:
    maps = torch.zeros(1, 1, 16, 16)
    maps[..., :4] = 1
    viewed = View(flip=True, scale=0.5).apply(maps)
    assert viewed.shape == (1, 1, 8, 8)
    assert float(viewed[..., -1].min()) > 0.9 and float(viewed[..., 0].max()) < 0.1
    back = View(flip=True, scale=0.5).undo(viewed, 16)
    assert torch.equal(back > 0.5, maps > 0.5)


def test_network_input_is_normalised_and_has_the_side_of_the_view() -> None:
    canvases = torch.full((2, 12, 12, 3), 255, dtype=torch.uint8)
    images = network_input(canvases, View(scale=0.5))
    assert images.shape == (2, 3, 6, 6)
    assert torch.allclose(
        images[0, :, 0, 0], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )
