"""Augmentation: geometry by hand, colours against torchvision, and no view without its object."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.augmentation import (
    AFFINE,
    BLUR,
    COLOUR,
    GREY,
    ORDER,
    TONES,
    View,
    count_visible,
    draw_view,
    identity_view,
)
from fss.episodes.config import OFF, VAT_TONES, AugmentConfig
from fss.episodes.rendering import normalize_imagenet, render
from fss.images.resize import image_canvas, mask_canvas
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD


def picture(size: int = 16, batch: int = 1) -> torch.Tensor:
    rng = keyed_rng(0, purpose="test.picture")
    return torch.from_numpy(rng.integers(0, 256, (batch, 3, size, size), dtype=np.uint8))


def disc(size: int, cx: float, cy: float, radius: float) -> Mask:
    ys, xs = np.mgrid[:size, :size]
    return ((xs - cx) ** 2 + (ys - cy) ** 2 <= radius**2).astype(np.uint8)


def view_with(**slots: object) -> View:
    view = identity_view()
    for name, value in slots.items():
        view[{"affine": AFFINE, "colour": COLOUR, "blur": BLUR, "grey": GREY, "tones": TONES, "order": ORDER}[name]] = (
            value
        )
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


ROW = [10, 20, 130, 250]
"""Levels of the red channel; the green and blue ones are 0."""


@pytest.mark.parametrize(
    ("tones", "expected"),
    [
        ({"grey": 1}, [3, 6, 39, 75]),  # 0.299 of red, rounded
        ({"posterize": 1}, [0, 16, 128, 240]),  # multiples of 16
        ({"equalize": 1}, [0, 85, 170, 255]),  # four levels, equally often
        ({"alpha": 0.2, "lightness": 0.5}, [-3, -42, 111, 369]),  # 0.8 x + 0.2 (8.5 x - 8 neighbours)
        ({"contrast": 0.2, "brightness": -0.1}, [-13.5, -1.5, 130.5, 274.5]),  # 1.2 x - 25.5
        ({"solarize": 1}, [10, 20, 125, 5]),  # 255 - x from 128 on
        ({"posterize": 1, "solarize": 1}, [0, 16, 127, 15]),  # in this order
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_vats_tones_by_hand(tones: dict[str, float], expected: list[float]) -> None:
    names = ("grey", "posterize", "equalize", "alpha", "lightness", "contrast", "brightness", "solarize")
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    images[:, 0] = torch.tensor(ROW)
    view = view_with(tones=[tones.get(name, 0) for name in names])
    red = levels(rendered(view, images, 4))[0, 0]
    assert red.tolist() == [torch.tensor(expected).round().clamp(0, 255).tolist()] * 4


def levels(normalised: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((normalised * std + mean) * 255).round()


def test_vats_tones_agree_with_opencv() -> None:
    images = picture(24)
    dark = images // 3 + 20
    channels = [cv2.equalizeHist(channel) for channel in dark[0].numpy()]
    assert (
        levels(rendered(view_with(tones=[0, 0, 1, *[0] * 5]), dark, 24))[0].numpy().tolist()
        == np.stack(channels).tolist()
    )
    alpha, lightness = 0.35, 0.75
    kernel = np.full((3, 3), -alpha)
    kernel[1, 1] = (1 - alpha) + alpha * (8 + lightness)
    expected = np.stack([cv2.filter2D(channel, -1, kernel) for channel in images[0].numpy()]).astype(int)
    sharp = levels(rendered(view_with(tones=[0, 0, 0, alpha, lightness, 0, 0, 0]), images, 24))[0].numpy()
    assert np.abs(sharp - expected).max() <= 1
    one_level = torch.full_like(images, 77)
    assert torch.equal(levels(rendered(view_with(tones=[0, 0, 1, *[0] * 5]), one_level, 24)), one_level.float())


def test_colours_change_in_the_order_of_the_view() -> None:
    images = picture(24)
    order = list(itertools.permutations(range(4))).index((3, 1, 0, 2))
    out = rendered(view_with(colour=[1.2, 0.85, 1.15, -0.13], order=order), images, 24)
    expected = reference.adjust_hue(images.float() / 255, -0.13)
    expected = reference.adjust_brightness(reference.adjust_contrast(expected, 0.85), 1.2)
    expected = normalize_imagenet(reference.adjust_saturation(expected, 1.15))
    assert torch.allclose(out, expected, atol=0.02)
    assert not torch.allclose(rendered(view_with(colour=[1.2, 0.85, 1.15, -0.13]), images, 24), expected, atol=0.02)


def test_vats_views_are_whole_and_each_change_has_its_probability() -> None:
    mask = disc(64, 32, 32, 20)
    views = np.stack([draw(VAT_TONES, mask, str(item)) for item in range(1500)])
    assert (views[:, AFFINE] == [1, 0, 0, 0, 1, 0]).all() and not views[:, [BLUR, GREY]].any()
    jittered = (views[:, COLOUR] != [1, 1, 1, 0]).any(1)
    tones = views[:, TONES] != 0
    assert (tones[:, 3] == tones[:, 4]).all() and (tones[:, 5] == tones[:, 6]).all()
    changes = np.column_stack([tones[:, [0, 1, 2, 3, 5, 7]], jittered])
    assert changes.mean(0) == pytest.approx([0.2] * 7, abs=0.04)
    assert np.corrcoef(changes.T)[np.triu_indices(7, 1)] == pytest.approx([0] * 21, abs=0.1)
    sharp, shifted = views[tones[:, 3], TONES], views[tones[:, 5], TONES]
    assert (sharp[:, 3] >= 0.2).all() and (sharp[:, 3] <= 0.5).all()
    assert (sharp[:, 4] >= 0.5).all() and (sharp[:, 4] <= 1).all() and (np.abs(shifted[:, 5:7]) <= 0.2).all()
    assert set(views[:, ORDER]) == set(range(24))
    assert not np.stack([draw(AugmentConfig(), mask, str(item)) for item in range(20)])[:, 12:].any()


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
