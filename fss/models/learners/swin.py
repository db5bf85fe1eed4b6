"""Swin transformer blocks on grids of any number of dimensions.

Liu et al., "Swin Transformer", ICCV 2021, section 3.2; Hong et al., "Cost Aggregation with 4D Convolutional Swin
Transformer for Few-Shot Segmentation", ECCV 2022, for four dimensions.

The published code rolls the grid in shifted blocks and masks the windows that wrap around its ends, so that their two
parts do not attend to each other. This module needs no roll and no mask: in each dimension a shifted grid consists of
whole windows and a half window at either end. Each combination over the dimensions is a view of the grid and one
attention call. Position indices are computed, not stored.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.layers.attention import biased_attention


class WindowAttention(nn.Module):
    """Multi-head attention with relative position bias in windows of ``window`` cells in ``dims`` dimensions."""

    def __init__(self, width: int, window: int, dims: int, heads: int = 4) -> None:
        super().__init__()
        self.window, self.dims, self.heads = window, dims, heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** dims, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, sides: Sequence[int]) -> Tensor:
        """Attend within windows ``[W,N,C]``, where N is the product of the windows' ``sides``."""
        w, n, c = windows.shape
        q, k, v = self.qkv(windows).view(w, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = biased_attention(q, k, v, self.bias(sides))
        return self.proj(out.transpose(1, 2).reshape(w, n, c))  # type: ignore[no-any-return]

    def bias(self, sides: Sequence[int]) -> Tensor:
        """Return the position bias ``[heads,N,N]`` between the N cells of a window with these sides."""
        table = self.relative_position_bias_table
        index = relative_index(sides, self.window, table.device)
        n = index.shape[0]
        return table.index_select(0, index.flatten()).t().reshape(self.heads, n, n)


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP with residual connections; shifted blocks move the windows by half a side."""

    def __init__(self, width: int, window: int, dims: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, window, dims)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Transform a grid ``[B,n1,..,nD,C]``; the shape stays the same."""
        x = self.attend(self.norm1(x)).add_(x)
        return self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))).add_(x)  # type: ignore[no-any-return]

    def attend(self, u: Tensor) -> Tensor:
        """Attend within the windows of a grid ``[B,n1,..,nD,C]``."""
        out = torch.empty_like(u, memory_format=torch.contiguous_format)
        parts = zip(*(window_parts(grid, self.attn.window, shifted=self.shifted) for grid in (u, out)), strict=True)
        for part, target in parts:
            windows = part.permute(window_order(part.ndim))
            counts, sides = windows.shape[: part.ndim // 2], windows.shape[part.ndim // 2 : -1]
            y = self.attn(windows.reshape(counts.numel(), sides.numel(), -1), sides)
            target.permute(window_order(part.ndim)).copy_(y.view(windows.shape))
        return out


class SwinStack(nn.Module):
    """A stack of Swin blocks, of which every second is shifted, and a final norm that the caller may apply."""

    def __init__(self, width: int, window: int, dims: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SwinBlock(width, window, dims, shifted=i % 2 == 1) for i in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a grid ``[B,n1,..,nD,C]``, without the final norm; the shape stays the same."""
        for block in self.blocks:
            x = block(x)
        return x


def window_parts(grid: Tensor, window: int, *, shifted: bool) -> list[Tensor]:
    """Split a grid ``[B,n1,..,nD,C]`` into parts whose windows have the same sides.

    Args:
        grid: the grid; each side must be a multiple of ``window``.
        window: cells a side.
        shifted: shift the windows by half a side in each dimension that has more than one.

    Returns:
        Views ``[B,m1,s1,..,mD,sD,C]`` of m1 x .. x mD windows with s1 x .. x sD cells.

    Raises:
        ValueError: a side is not a multiple of the window.
    """
    parts, half = [grid], window // 2
    for d in range(1, grid.ndim - 1):
        size, axis = grid.shape[d], 2 * d - 1
        if size % window:
            sizes = tuple(grid.shape[1:-1])
            raise ValueError(f"a grid of {sizes} cells cannot be divided into windows of {window}; use multiples")
        if shifted and size > window:
            halves = [torch.unflatten(part, axis, (size // half, half)) for part in parts]
            ends = [part[(slice(None),) * axis + (slice(None, None, size // half - 1),)] for part in halves]
            parts = [
                torch.unflatten(part.narrow(axis, half, size - window), axis, (-1, window)) for part in parts
            ] + ends
        else:
            parts = [torch.unflatten(part, axis, (-1, window)) for part in parts]
    return parts


def window_order(ndim: int) -> list[int]:
    """Return the order of dimensions that turns ``[B,m1,s1,..,mD,sD,C]`` into ``[B,m1,..,mD,s1,..,sD,C]``."""
    return [0, *range(1, ndim - 1, 2), *range(2, ndim, 2), ndim - 1]


def relative_index(sides: Sequence[int], window: int, device: torch.device) -> Tensor:
    """Return the indices ``[N,N]`` into the bias table for each pair of query cell (row) and key cell (column).

    Args:
        sides: sides of the windows, in cells; N is their product.
        window: side of a whole window, which determines the size of the table.
        device: device of the result.
    """
    index = torch.zeros((), dtype=torch.long, device=device)
    for axis, side in enumerate(sides):
        coordinates = torch.arange(side, device=device)
        difference = coordinates[:, None] - coordinates[None, :] + window - 1
        shape = [1] * (2 * len(sides))
        shape[axis], shape[axis + len(sides)] = side, side
        index = index * (2 * window - 1) + difference.view(shape)
    cells = int(index.numel() ** 0.5)
    return index.reshape(cells, cells)
