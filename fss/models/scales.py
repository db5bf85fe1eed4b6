"""Queries in several views: the whole picture, its mirror image, and overlapping tiles where the object is small.

At the size of a network an object of one percent of the picture covers a few cells. A tile shows a part of the picture
twice as large, cut from the photograph at its own size. Nine tiles of half the picture's sides, a quarter apart, cover
it; every learner segments them with the same encoded supports.

========  ==========================================================  =================
scales    tiles                                                       passes of a query
========  ==========================================================  =================
whole     none                                                        1
adaptive  where supports and coarse answer show a small object        1 or 10
tiles     always                                                      10
========  ==========================================================  =================

With ``flip`` the whole picture is also seen mirrored, in one more pass, and the logits of both are averaged.

A pass is a picture or a tile that goes through the backbone and the learner. An object is taken to be small where
the geometric mean of two shares is below a tenth: the share of their picture that the objects of the supports cover,
and the share of the query that the answer for the whole picture covers.

A pixel's logits are those of the whole picture and of the tiles, in equal parts. Tiles count less towards edges that
cut the picture, because a cell there lacks what surrounds it: the weights are sin² ramps that add up to 1 over all
tiles. Plain means cost large objects accuracy (tests/benchmarks/README.md, "Scales").
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fss.core.arrays import UInt8
from fss.models.config import Scales
from fss.models.features import Features, take_features

TILES: tuple[tuple[float, float], ...] = tuple((top, left) for top in (0, 0.25, 0.5) for left in (0, 0.25, 0.5))
"""Top and left edge of each tile, as shares of the picture's sides."""
SIDE = 0.5
"""Side of a tile, as a share of the picture's side."""
SMALL = 0.1
"""Geometric mean of the shares of object in the supports and in the answer for the whole query below which an object is
small."""

Decode = Callable[[Features, Features, Tensor, Sequence[int]], Tensor]
"""``decode`` or ``shot_logits`` of a segmenter: returns logits ``[B,2,H,W]``, or ``[B,K,2,H,W]`` by shot."""
EncodeTiles = Callable[[Sequence[int], int], Features]
"""Returns the embedded features of one tile of some queries: their rows in the batch, and the number of the tile."""


def tile_box(number: int, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a tile in a picture of ``height`` x ``width`` pixels; both are at least one."""
    edges = ((edge, length) for edge, length in zip(TILES[number], (height, width), strict=True))
    y, x = (slice(round(edge * length), max(1, round((edge + SIDE) * length))) for edge, length in edges)
    return y, x


def cut_tile(rgb: UInt8, number: int) -> UInt8:
    """Return a tile of a picture, a view uint8 [h, w, 3] of uint8 [H, W, 3]."""
    return rgb[tile_box(number, *rgb.shape[:2])]


def decode_in_scales(
    decode: Decode,
    query: Features,
    support: Features,
    masks: Tensor,
    size: Sequence[int],
    *,
    scales: Scales,
    encode_tiles: EncodeTiles,
    encode_flipped: Callable[[], Features] | None = None,
) -> tuple[Tensor, list[int]]:
    """Compare B queries with their supports, as a whole and, where ``scales`` says so, in tiles.

    Args:
        decode: compares the encoded queries and supports.
        query: embedded maps of the B whole queries.
        support: embedded maps of B * K supports; those of an episode are adjacent.
        masks: masks of the supports ``[B,K,h,w]``, 0 and 1.
        size: height and width of the logits, in pixels.
        scales: where tiles are taken.
        encode_tiles: encodes tiles of the queries that need them.
        encode_flipped: encodes the mirrored queries; None: they are not seen mirrored.

    Returns:
        Logits as ``decode`` returns them, and the rows of the queries that were seen in tiles.
    """
    coarse = decode(query, support, masks, size)
    if encode_flipped is not None:
        coarse = (coarse + decode(encode_flipped(), support, masks, size).flip(-1)) / 2
    if scales == "whole":
        return coarse, []
    index = torch.arange(len(masks), device=masks.device)
    if scales == "adaptive":
        index = index[_is_small(coarse, masks)]
    rows = index.tolist()
    if not rows:
        return coarse, []
    shots = masks.shape[1]
    of_rows = take_features(support, (index[:, None] * shots + torch.arange(shots, device=index.device)).flatten())
    total, weights = torch.zeros_like(coarse[index]), coarse.new_zeros(tuple(size))
    for number, (top, left) in enumerate(TILES):
        y, x = tile_box(number, *size)
        part = y.stop - y.start, x.stop - x.start
        weight = _ramp(top, y, size[0], coarse)[:, None] * _ramp(left, x, size[1], coarse)
        total[..., y, x] += decode(encode_tiles(rows, number), of_rows, masks[index], part) * weight
        weights[y, x] += weight
    return coarse.index_copy(0, index, (coarse[index] + total / weights) / 2), rows


def passes_per_query(queries: int, tiled: int, *, flip: bool = False) -> float:
    """Return the mean number of passes of a query, of which ``tiled`` were seen in tiles too, or all mirrored too."""
    return 1 + flip + len(TILES) * tiled / max(queries, 1)


def _ramp(edge: float, pixels: slice, length: int, like: Tensor) -> Tensor:
    """Return the weights of a tile along one axis of the picture, ``[pixels]`` of the type and device of ``like``.

    Args:
        edge: first edge of the tile, as a share of the picture's side.
        pixels: the tile's pixels.
        length: side of the picture, in pixels.
        like: a tensor.
    """
    position = (torch.arange(pixels.start, pixels.stop, device=like.device) + 0.5) / length
    middle = edge + SIDE / 2
    at_border = (position < middle) if edge == 0 else (position > middle) if edge == 1 - SIDE else position < 0
    ramp = (math.pi * (position - edge) / SIDE).sin().square().clamp(min=1e-3)  # a tiny picture's only pixel has one
    return torch.where(at_border, 1.0, ramp).to(like.dtype)


def _is_small(logits: Tensor, masks: Tensor) -> Tensor:
    """Return whether the object of each query seems small, bool ``[B]``.

    Args:
        logits: logits of the whole queries, ``[B,2,H,W]`` or ``[B,K,2,H,W]``.
        masks: masks of the supports, ``[B,K,h,w]``.
    """
    joint = logits if logits.ndim == 4 else logits.mean(1)
    found = (joint[:, 1] > joint[:, 0]).float().mean((1, 2))
    return (found * masks.float().mean((1, 2, 3))).sqrt() < SMALL
