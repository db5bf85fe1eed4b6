"""Distractors: the object of another task, pasted into a query as background.

In a photograph with one salient object, segmenting what is salient solves every task without the support. A second
salient object that is background makes the support necessary. This is an addition to the published method.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fss.core.rng import keyed_rng

SCALE = (0.5, 1.0)
REACH = 0.7

Placement = NDArray[np.float32]
"""float32 [3]: scale, and shifts to the right and down in half image sides; scale 0 means no distractor."""


def draw_placement(probability: float, *, seed: int, epoch: int, item: str) -> Placement:
    """Sample whether and where a query gets a distractor, at half to full size."""
    rng = keyed_rng(seed, epoch=epoch, item=item, purpose="distractor")
    if rng.random() >= probability:
        return np.zeros(3, np.float32)
    return np.array([rng.uniform(*SCALE), *rng.uniform(-REACH, REACH, 2)], np.float32)


def paste_distractors(query: Tensor, target: Tensor, partners: Tensor, placements: Tensor) -> tuple[Tensor, Tensor]:
    """Paste an object of another query of the batch behind the object of each query.

    Args:
        query: rendered queries, float [B, 3, S, S].
        target: targets, uint8 [B, S, S] in {0, 1, 255}; all values except 0 belong to the object.
        partners: index of the query whose object is pasted, long [B].
        placements: placements, float32 [B, 3]; see ``Placement``. Like the partners they may stay on the CPU, so that
            a GPU does not wait for the host.

    Returns:
        Queries with distractors, [B, 3, S, S], and the targets, unchanged, since distractors are background.
    """
    rows = (placements[:, 0] > 0).nonzero()[:, 0]
    if not len(rows):
        return query, target
    values = (placements[rows, :1], placements[rows, 1:], partners[rows], rows)
    scale, shift, source, rows = (each.to(query.device, non_blocking=True) for each in values)
    grid = shrinking_grid(scale, shift, query.shape[-1]).to(query.dtype)
    moved = F.grid_sample(query[source], grid, align_corners=False)
    mask = F.grid_sample((target[source] != 0)[:, None].to(query.dtype), grid, mode="nearest", align_corners=False)
    visible = (mask > 0) & (target[rows] == 0)[:, None]
    return query.index_copy(0, rows, torch.where(visible, moved, query[rows])), target


def shrinking_grid(scale: Tensor, shift: Tensor, side: int) -> Tensor:
    """Return where each pixel of an image looks up a shrunk and moved picture, [N, S, S, 2]; beyond [-1, 1] outside it.

    Args:
        scale: side of the picture as a share of the image's, [N, 1].
        shift: centre of the picture to the right and down, in half image sides, [N, 2].
        side: side S of the image in pixels.
    """
    theta = torch.cat([torch.diag_embed(1 / scale.expand(-1, 2)), (-shift / scale)[..., None]], 2)
    return F.affine_grid(theta, [len(scale), 1, side, side], align_corners=False)
