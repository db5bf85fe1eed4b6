"""Raw episodes become the tensors that a segmenter takes."""

import torch

from fss.episodes.augmentation import identity_view
from fss.episodes.episode import RawEpisodes


def raw(count: int, shots: int, *, own_support: bool) -> RawEpisodes:
    images = torch.arange(count * 3 * 64, dtype=torch.uint8).view(count, 3, 8, 8)
    masks = torch.zeros(count, 8, 8, dtype=torch.uint8)
    masks[:, :4], masks[:, 7] = 1, 255
    view = torch.from_numpy(identity_view())
    return RawEpisodes(
        query=images,
        query_masks=masks,
        query_views=view.expand(count, -1),
        support_masks=masks[:, None].expand(count, shots, 8, 8),
        support_views=view.expand(count, shots, -1),
        ids=tuple(str(n) for n in range(count)),
        support=images[:, None].expand(count, shots, 3, 8, 8).flip(0) if own_support else None,
    )


def test_rendering_gives_the_shapes_and_values_of_an_episode() -> None:
    batch = raw(2, 3, own_support=True).render(8)
    assert batch.query.shape == (2, 3, 8, 8)
    assert batch.support_images.shape == (2, 3, 3, 8, 8)
    assert batch.target.dtype == torch.long
    assert batch.target[0, :, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 255]
    assert batch.support_masks[0, 0, :, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert torch.equal(batch.support_images[0, 2], batch.query[1])


def test_a_support_left_out_is_the_querys_picture() -> None:
    batch = raw(2, 1, own_support=False).render(8)
    assert torch.equal(batch.support_images[:, 0], batch.query)
