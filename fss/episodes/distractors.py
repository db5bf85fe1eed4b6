"""Paste another task's object into a query, as background: then the support decides what to find.

A photograph with one salient object never needs its support: "find what is salient" answers every task that is cut from
it. With a second object beside it, which is background, that answer is wrong. Beyond the published method.
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
"""float32 [3]: scale, and shift to the right and down in half image sides; scale 0 pastes nothing."""


def draw_placement(probability: float, *, seed: int, epoch: int, item: str) -> Placement:
    """Draw whether and where a query gets a distractor: half to full size, anywhere up to the picture's border."""
    rng = keyed_rng(seed, epoch=epoch, item=item, purpose="distractor")
    if rng.random() >= probability:
        return np.zeros(3, np.float32)
    return np.array([rng.uniform(*SCALE), *rng.uniform(-REACH, REACH, 2)], np.float32)


def paste_distractors(query: Tensor, target: Tensor, partners: Tensor, placements: Tensor) -> tuple[Tensor, Tensor]:
    """Paste each query's partner object behind its own object.

    Args:
        query: [B, 3, S, S], rendered.
        target: uint8 [B, S, S] in {0, 1, 255}; what is not 0 is the object.
        partners: long [B], the row of the batch whose object is pasted.
        placements: float32 [B, 3], see ``Placement``.

    Returns:
        the new queries, and the targets, in which the pasted objects are 0.
    """
    rows = (placements[:, 0] > 0).nonzero()[:, 0]
    if not len(rows):
        return query, target
    scale, shift, source = placements[rows, :1], placements[rows, 1:], partners[rows]
    theta = torch.cat([torch.diag_embed(1 / scale.expand(-1, 2)), (-shift / scale)[..., None]], 2)
    grid = F.affine_grid(theta, [len(rows), 1, *query.shape[2:]], align_corners=False).to(query.dtype)
    moved = F.grid_sample(query[source], grid, align_corners=False)
    mask = F.grid_sample((target[source] != 0)[:, None].to(query.dtype), grid, mode="nearest", align_corners=False)
    here = (mask > 0) & (target[rows] == 0)[:, None]
    return query.index_copy(0, rows, torch.where(here, moved, query[rows])), target
