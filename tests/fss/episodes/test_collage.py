"""Collages: a picture shown smaller, among other photographs of its group, whose objects are background."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fss.core.config import config_hash, to_dict
from fss.episodes.augmentation import identity_view
from fss.episodes.collage import Layout, draw_layout, paste_collages
from fss.episodes.config import SplitConfig
from fss.episodes.episode import RawEpisodes
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD

SIDE = 16
HALF = [0.5, -0.5, 0.5, 0.5, -0.5, 0.5]
"""The picture is the lower left cell of a grid of 2 x 2 pictures."""


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures that are 1, 2, ... everywhere, and masks whose upper half is 1 and lower half is 255."""
    masks = torch.ones(count, SIDE, SIDE, dtype=torch.uint8)
    masks[:, SIDE // 2 :] = 255
    return torch.arange(1.0, count + 1)[:, None, None, None].expand(-1, 3, SIDE, SIDE), masks


def draw(config: SplitConfig, item: str, mask: np.ndarray | None = None, role: str = "query") -> Layout:
    mask = np.ones((64, 64), np.uint8) if mask is None else mask
    return draw_layout(config, mask, identity_view(), size=64, seed=1, epoch=0, item=item, role=role)


def test_the_picture_is_a_cell_among_the_others_of_its_group() -> None:
    images, masks = pictures(4)
    layouts = torch.tensor([HALF, [0.0] * 6, [0.0] * 6, [0.0] * 6])
    collages, moved = paste_collages(images, masks, torch.tensor([1, 2, 3, 0]), layouts)
    quarters = collages[0, 0].unfold(0, 8, 8).unfold(1, 8, 8)  # [2, 2, 8, 8]
    assert all(len(quarters[y, x].unique()) == 1 for y in (0, 1) for x in (0, 1))
    assert quarters[1, 0, 0, 0] == 1
    assert sorted(quarters.flatten(2)[..., 0].flatten().tolist()) == [1, 2, 3, 4]
    assert moved[0, :8].max() == 0 and moved[0, :, 8:].max() == 0
    assert (moved[0, 8:12, :8] == 1).all() and (moved[0, 12:, :8] == 255).all()
    assert torch.equal(collages[1:], images[1:]) and torch.equal(moved[1:], masks[1:])


@pytest.mark.parametrize(("partners", "around"), [([1, 0], {2}), ([1, 2, 0], {2, 3}), ([0, 1], None)])
def test_small_groups_repeat_the_others_and_a_group_of_one_has_no_collage(
    partners: list[int], around: set[int] | None
) -> None:
    images, masks = pictures(len(partners))
    layouts = torch.tensor([[0.25, -0.75, 0.75, 0.25, -0.75, 0.75], *([[0.0] * 6] * (len(partners) - 1))])
    collages, moved = paste_collages(images, masks, torch.tensor(partners), layouts)
    if around is None:
        assert torch.equal(collages, images) and torch.equal(moved, masks)
    else:
        assert set(collages[0].unique().tolist()) == {1} | around
        assert (collages[0] == 1).all(0).sum() == 16 == (moved[0] > 0).sum()


def test_a_shrunk_picture_does_not_alias() -> None:
    stripes = torch.zeros(2, 3, SIDE, SIDE)
    stripes[0, :, :, ::2] = 1.0
    layouts = torch.tensor([HALF, [0.0] * 6])
    collages, _ = paste_collages(stripes, torch.zeros(2, SIDE, SIDE, dtype=torch.uint8), torch.tensor([1, 0]), layouts)
    assert torch.allclose(collages[0, :, 9:15, 1:7], torch.tensor(0.5))


def test_layouts_are_keyed_and_inside_the_image_and_keep_small_objects() -> None:
    config = SplitConfig(collage=0.5, collage_scale=(0.2, 1.0), min_half=0.0025)
    layouts = np.stack([draw(config, str(number)) for number in range(300)])
    collages = layouts[layouts[:, 0] > 0]
    assert 0.4 < len(collages) / len(layouts) < 0.6
    assert (np.abs(collages[:, 1:3]) + collages[:, :1] <= 1 + 1e-6).all()
    assert collages[:, 0].min() < 0.3 and (collages[:, 3] >= 0.2).all()
    assert 0.35 < (collages[:, :3] == collages[:, 3:]).all(1).mean() < 0.65
    assert np.array_equal(draw(config, "7"), draw(config, "7"))
    assert any(not np.array_equal(draw(config, str(n)), draw(config, str(n), role="support")) for n in range(8))
    small = np.zeros((64, 64), np.uint8)
    small[:8, :8] = 1  # 1.6 % of the image: at a scale of 0.4 it covers min_half
    always = replace(config, collage=1.0)
    assert min(draw(always, str(n), small)[0] for n in range(50)) == pytest.approx(0.4, abs=1e-6)
    assert not draw(always, "a", np.pad(np.ones((3, 3), np.uint8), (0, 61))).any()  # smaller than min_half already
    assert not draw(SplitConfig(), "a").any()


def test_query_and_supports_have_collages_of_their_own() -> None:
    canvas = np.array(IMAGENET_MEAN)[None, :, None, None] * 255 + np.zeros((2, 3, SIDE, SIDE))
    canvas[1] += np.array(IMAGENET_STD)[:, None, None] * 51
    _, masks = pictures(2)
    view = torch.from_numpy(identity_view())
    raw = RawEpisodes(
        query=torch.from_numpy(canvas.round().astype(np.uint8)),
        query_masks=masks,
        query_views=view.expand(2, -1),
        support_masks=masks[:, None],
        support_views=view.expand(2, 1, -1),
        ids=("a", "b"),
        partners=torch.tensor([1, 0]),
        layouts=torch.tensor([[[0.0] * 6, HALF], [HALF, [0.0] * 6]]),
    )
    batch, plain = raw.render(SIDE), replace(raw, layouts=None).render(SIDE)
    assert torch.equal(batch.query[0], plain.query[0]) and torch.equal(batch.target[0], plain.target[0])
    assert torch.equal(batch.support_images[1], plain.support_images[1])
    assert batch.support_masks[0].sum() == plain.support_masks[0].sum() / 4
    assert (batch.target[1] == 1).sum() == 32 and batch.query[1].min() < batch.query[1].max()


def test_the_hash_of_trainings_without_collages_is_that_of_earlier_versions() -> None:
    without = {name: value for name, value in to_dict(SplitConfig()).items() if not name.startswith("collage")}
    assert SplitConfig().identity() == without
    assert config_hash(SplitConfig(collage=0.5).identity()) != config_hash(without)
    with pytest.raises(ValueError, match="collage_scale is a range"):
        SplitConfig(collage_scale=(0.5, 0.3))
