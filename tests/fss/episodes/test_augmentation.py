"""Augmentation: geometry by hand, colours against torchvision, and no view without its object."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.augmentation import AFFINE, View, count_visible, draw_view, identity_view
from fss.episodes.config import OFF, AugmentConfig
from fss.episodes.rendering import normalize_imagenet, render
from fss.images.resize import image_canvas, mask_canvas


def picture(size: int = 16, batch: int = 1) -> torch.Tensor:
    rng = keyed_rng(0, purpose="test.picture")
    return torch.from_numpy(rng.integers(0, 256, (batch, 3, size, size), dtype=np.uint8))


def disc(size: int, cx: float, cy: float, radius: float) -> Mask:
    ys, xs = np.mgrid[:size, :size]
    return ((xs - cx) ** 2 + (ys - cy) ** 2 <= radius**2).astype(np.uint8)


def view_with(**slots: object) -> View:
    view = identity_view()
    for name, value in slots.items():
        view[{"affine": slice(0, 6), "colour": slice(6, 10), "blur": 10, "grey": 11}[name]] = value
    return view


def rendered(view: View, images: torch.Tensor, size: int) -> torch.Tensor:
    masks = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.uint8)
    return render(images, masks, torch.from_numpy(view)[None].repeat(len(images), 1), size)[0]


def draw(config: AugmentConfig, mask: Mask, item: str = "a", size: int = 64) -> View:
    return draw_view(config, mask, height=300, width=400, size=size, seed=0, epoch=0, item=item, role="query")


def test_the_plain_view_is_the_normalised_picture() -> None:
    images = picture()
    assert torch.equal(rendered(identity_view(), images, 16), normalize_imagenet(images.float() / 255))


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        ([-1, 0, 0, 0, 1, 0], lambda x: x.flip(-1)),
        ([1, 0, 0, 0, -1, 0], lambda x: x.flip(-2)),
        ([0, -1, 0, 1, 0, 0], lambda x: x.rot90(1, (-2, -1))),
        ([0.5, 0, -0.5, 0, 0.5, 0.5], lambda x: x[..., 8:, :8]),
    ],
)
def test_geometry_by_hand(affine: list[float], expected: object) -> None:
    images = picture()
    masks = torch.from_numpy(keyed_rng(0, purpose="m").choice([0, 1, 255], (1, 16, 16)).astype(np.uint8))
    view = torch.from_numpy(view_with(affine=affine))[None]
    size = expected(images).shape[-1]  # type: ignore[operator]
    out, out_masks = render(images, masks, view, size)
    assert torch.allclose(out, normalize_imagenet(expected(images).float() / 255), atol=1e-4)  # type: ignore[operator]
    assert torch.equal(out_masks, expected(masks))  # type: ignore[operator]


def test_masks_keep_their_values_and_views_do_not_mix() -> None:
    images, config = picture(48, 6), AugmentConfig()
    masks = torch.from_numpy(np.stack([disc(48, 24, 24, 15) for _ in range(6)]))
    masks[:, :10] = 255
    views = torch.from_numpy(np.stack([draw(config, masks[0].numpy(), str(n), 32) for n in range(6)]))
    out, out_masks = render(images, masks, views, 32)
    assert set(out_masks.unique().tolist()) <= {0, 1, 255}
    assert torch.isfinite(out).all()
    for n in range(6):
        one, one_mask = render(images[n : n + 1], masks[n : n + 1], views[n : n + 1], 32)
        assert torch.allclose(one[0], out[n], atol=1e-5)
        assert torch.equal(one_mask[0], out_masks[n])


def test_colours_agree_with_torchvision() -> None:
    images = picture(24)
    out = rendered(view_with(colour=[1.2, 0.85, 1.15, -0.13]), images, 24)
    expected = images.float() / 255
    expected = reference.adjust_brightness(expected, 1.2)
    expected = reference.adjust_contrast(expected, 0.85)
    expected = reference.adjust_saturation(expected, 1.15)
    expected = reference.adjust_hue(expected, -0.13)
    assert torch.allclose(out, normalize_imagenet(expected), atol=0.02)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_blur_agrees_with_torchvision(kernel: int) -> None:
    images = picture(24)
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    expected = reference.gaussian_blur(images.float() / 255, [kernel, kernel], [sigma, sigma])
    assert torch.allclose(rendered(view_with(blur=kernel), images, 24), normalize_imagenet(expected), atol=1e-4)


def test_grey_makes_three_equal_channels() -> None:
    out = rendered(view_with(grey=1), picture(), 16)
    pixels = (
        out * torch.tensor([0.229, 0.224, 0.225])[:, None, None] + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    )
    assert torch.allclose(pixels[:, 0], pixels[:, 2], atol=1e-5)


def test_the_count_of_visible_points_is_that_of_the_rendered_mask() -> None:
    mask = disc(80, 20, 60, 18)
    for item in range(20):
        view = draw(AugmentConfig(rotate=1.0), mask, str(item))
        warped = render(picture(80), torch.from_numpy(mask)[None], torch.from_numpy(view)[None], 64)[1]
        shown = int(warped.sum())
        assert abs(shown - count_visible(mask, view[AFFINE], 64)) <= 0.03 * shown  # float32 against float64 on borders


@pytest.mark.parametrize("mask", [disc(100, 4, 4, 5), disc(100, 50, 98, 4), disc(100, 50, 50, 45)])
def test_every_view_shows_its_object(mask: Mask) -> None:
    config = AugmentConfig(crop_scale=(0.05, 0.3), keep=0.25, attempts=2)
    plain = count_visible(mask, identity_view()[AFFINE], 64)
    for item in range(30):
        view = torch.from_numpy(draw(config, mask, str(item)))[None]
        warped = render(picture(100), torch.from_numpy(mask)[None], view, 64)[1]
        assert int(warped.sum()) >= 0.25 * plain - 1


def test_a_mask_without_an_object_takes_the_first_draw() -> None:
    config = AugmentConfig(rotate=1.0, degrees=90.0)
    views = [draw(config, np.zeros((64, 64), np.uint8), str(item)) for item in range(5)]
    assert all(view[1] != 0 for view in views)  # rotated: not the crop that has to contain an object


def test_crops_have_the_drawn_size_and_are_clamped() -> None:
    whole = AugmentConfig(crop_scale=(2.0, 2.0), crop_ratio=(1.0, 1.0), rotate=0, horizontal_flip=0, vertical_flip=0)
    assert draw(whole, disc(64, 32, 32, 20))[AFFINE].tolist() == [1, 0, 0, 0, 1, 0]
    small = AugmentConfig(crop_scale=(0.3, 0.3), crop_ratio=(1.0, 1.0), rotate=0, horizontal_flip=0, vertical_flip=0)
    view = draw(small, np.ones((64, 64), np.uint8))
    side = np.sqrt(0.3 * 300 * 400)  # a square of the 300 x 400 picture
    assert np.allclose([view[0], view[4]], [side / 400, side / 300], atol=1e-6)
    assert abs(view[2]) <= 1 - view[0]


def test_roles_epochs_and_items_draw_independently() -> None:
    mask = disc(64, 32, 32, 20)
    keys = [("a", "query", 0), ("b", "query", 0), ("a", "support", 0), ("a", "query", 1)]
    views = {
        draw_view(AugmentConfig(), mask, height=64, width=64, size=64, seed=0, epoch=e, item=i, role=r).tobytes()
        for i, r, e in keys * 2
    }
    assert len(views) == 4


def test_switched_off_every_view_is_plain() -> None:
    assert draw(OFF, disc(64, 32, 32, 20)).tolist() == identity_view().tolist()


def test_canvases_are_squares_and_masks_keep_their_values() -> None:
    rgb = keyed_rng(0, purpose="c").integers(0, 256, (30, 50, 3), dtype=np.uint8)
    assert image_canvas(rgb, 20).shape == (20, 20, 3)
    mask = np.repeat(np.array([[0, 1, 255, 7]], np.uint8), 8, 0).repeat(5, 1)
    assert mask_canvas(mask, 4).tolist() == [[0, 1, 255, 7]] * 4


@pytest.mark.parametrize("wrong", [{"blur": 1.5}, {"crop_scale": (0.9, 0.2)}, {"hue": 0.7}])
def test_wrong_strengths_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentConfig(**wrong)  # type: ignore[arg-type]
