"""Collages: a picture shown smaller, among other photographs of its batch.

A photograph with one salient object teaches large objects and nothing to choose from. In a collage the picture is
shrunk and stands anywhere, and the rest of the image shows other photographs, whose objects are background. Query and
support have draws of their own, so that an object has different sizes in both. This is an addition to the published
method.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.augmentation import AFFINE, View, visible_share
from fss.episodes.config import SplitConfig
from fss.episodes.distractors import shrinking_grid

OTHERS = 3
"""Largest number of different photographs around a picture."""
ALIGNED = 0.5
"""Share of collages in which the picture is one cell of the grid of the others, so that nothing marks its frame."""

Layout = NDArray[np.float32]
"""float32 [6]: scale, and centre to the right and down in half image sides, of the picture; the same of a cell of the
grid of photographs around it. Scale 0 means no collage."""


def draw_layout(
    config: SplitConfig, mask: Mask, view: View, *, size: int, seed: int, epoch: int, item: str, role: str
) -> Layout:
    """Sample whether and how a view becomes part of a collage.

    The picture is never so small that its half covers less than ``config.min_half`` of the image. If the half is that
    small already, there is no collage.

    Args:
        config: probability and range of scales.
        mask: mask of the canvas, uint8 [C, C]; 1 is the half that the view shows.
        view: the view, see ``augmentation.View``.
        size: side of the rendered view in pixels.
        seed: seed of the key.
        epoch: epoch of the key.
        item: image id of the key.
        role: "support" or "query", which have independent draws.
    """
    rng = keyed_rng(seed, epoch=epoch, item=item, purpose=f"collage.{role}")
    if rng.random() >= config.collage:
        return np.zeros(6, np.float32)
    share = visible_share(mask, view[AFFINE], size)
    smallest = np.sqrt(config.min_half / share) if share else 0.0
    scale, cell = np.maximum(rng.uniform(*config.collage_scale, 2), (smallest, 0))
    if scale >= 1:
        return np.zeros(6, np.float32)
    picture = [scale, *(rng.uniform(-1, 1, 2) * (1 - scale))]
    around = picture if rng.random() < ALIGNED else [cell, *(rng.uniform(-1, 1, 2) * cell)]
    return np.array([*picture, *around], np.float32)


def paste_collages(pictures: Tensor, masks: Tensor, partners: Tensor, layouts: Tensor) -> tuple[Tensor, Tensor]:
    """Show some pictures smaller, among others of the batch.

    Args:
        pictures: rendered views, float [B, 3, S, S].
        masks: their masks, uint8 [B, S, S]; of any values.
        partners: index of the next picture of the group of each picture, long [B]; the last one's is the first.
        layouts: layouts, float32 [B, 6]; see ``Layout``. Like the partners they may stay on the CPU, so that a GPU does
            not wait for the host.

    Returns:
        Pictures [B, 3, S, S] and masks [B, S, S]; a mask is 0 outside its picture.
    """
    rows = ((layouts[:, 0] > 0) & (partners != torch.arange(len(partners)))).nonzero()[:, 0]
    if not len(rows):
        return pictures, masks
    device, side = pictures.device, pictures.shape[-1]
    sources = torch.stack([rows, *(chain[rows] for chain in _others(partners))], 1)
    layout, sources, rows = (each.to(device, non_blocking=True) for each in (layouts[rows], sources, rows))
    # Twice the resolution and a mean over 2 x 2 pixels, because a shrunk picture must not alias.
    atlas = pictures[sources].permute(0, 2, 3, 1, 4).flatten(3)  # [N, 3, S, (1 + OTHERS) * S]
    grid = _atlas_grid(layout, 2 * side, side).to(atlas.dtype)
    collages = F.avg_pool2d(F.grid_sample(atlas, grid, padding_mode="border", align_corners=False), 2)
    moved = shrinking_grid(layout[:, :1], layout[:, 1:3], side)
    shrunk = F.grid_sample(masks[rows, None].float(), moved, mode="nearest", align_corners=False)[:, 0]
    return pictures.index_copy(0, rows, collages), masks.index_copy(0, rows, shrunk.to(masks.dtype))


def _others(partners: Tensor) -> list[Tensor]:
    """Return the indices of OTHERS pictures around each picture, each [B]; a small group repeats them."""
    own, chains = torch.arange(len(partners)), [partners]
    while len(chains) < OTHERS:
        following = partners[chains[-1]]
        chains.append(torch.where(following == own, partners, following))
    return chains


def _atlas_grid(layout: Tensor, pixels: int, side: int) -> Tensor:
    """Return where in the row of pictures each pixel of a collage is looked up, float [N, P, P, 2] in [-1, 1].

    Args:
        layout: layouts, [N, 6].
        pixels: side P of a collage in pixels.
        side: side of a picture in pixels.
    """
    # Coordinates along one axis, [N, 2, P] for x and y; planes [N, P, P] are made as late as possible.
    axis = (torch.arange(pixels, device=layout.device) * 2 + 1) / pixels - 1
    own = (axis - layout[:, 1:3, None]) / layout[:, :1, None]
    around = (axis - layout[:, 4:6, None]) / layout[:, 3:4, None]
    cell = ((around + 1) / 2).floor()
    # Half a pixel from the border, so that no pixel of the next picture in the row is mixed in.
    (own_x, own_y), (other_x, other_y) = (
        each.clamp(1 / side - 1, 1 - 1 / side).unbind(1) for each in (own, around - 2 * cell)
    )
    inside_x, inside_y = (own.abs() <= 1).unbind(1)
    inside = inside_x[:, None] & inside_y[:, :, None]
    # By odd columns and rows, so that neighbours differ and the cells next to the picture show all others.
    number = (cell[:, 0, None] % 2 + 2 * (cell[:, 1, :, None] % 2) - 1) % OTHERS + 1
    x = torch.where(inside, own_x[:, None], other_x[:, None] + 2 * number)
    y = torch.where(inside, own_y[:, :, None], other_y[:, :, None])
    return torch.stack([(x + 1) / (1 + OTHERS) - 1, y], -1)
