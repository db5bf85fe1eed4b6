"""Swin attention over grids of any number of dimensions, with masks and position indices computed, never stored.

Liu et al., "Swin Transformer", ICCV 2021; Hong et al., "Cost Aggregation with 4D Convolutional Swin Transformer for
Few-Shot Segmentation", ECCV 2022, for four dimensions.

A shifted block masks the windows that wrap around an end of the grid, so that the two parts do not see each other.
Those windows are cut into their parts instead: in each dimension the grid splits into whole windows and, at the end,
two half windows. Each combination over the dimensions is one attention call without any mask.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.attention import biased_attention


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of side ``window`` in ``dims`` dimensions, with a relative position bias."""

    def __init__(self, width: int, window: int, dims: int, heads: int = 4) -> None:
        super().__init__()
        self.window, self.dims, self.heads = window, dims, heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** dims, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, sides: Sequence[int]) -> Tensor:
        """Attend within windows ``[W,N,C]`` of the given ``sides``, N being their product."""
        w, n, c = windows.shape
        q, k, v = self.qkv(windows).view(w, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = biased_attention(q, k, v, self.bias(sides))
        return self.proj(out.transpose(1, 2).reshape(w, n, c))  # type: ignore[no-any-return]

    def bias(self, sides: Sequence[int]) -> Tensor:
        """Return the position bias ``[heads,N,N]`` between the cells of a window, or of a part of one."""
        table = self.relative_position_bias_table
        index = relative_index(sides, self.window, table.device)
        n = index.shape[0]
        return table.index_select(0, index.flatten()).t().reshape(self.heads, n, n)


class SwinBlock(nn.Module):
    """Pre-norm attention and MLP with residual connections; shifted blocks attend over windows moved by half a side."""

    def __init__(self, width: int, window: int, dims: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, window, dims)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Map a grid ``[B,n1,..,nD,C]`` to the same shape."""
        x = self.attend(self.norm1(x)).add_(x)
        return self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))).add_(x)  # type: ignore[no-any-return]

    def attend(self, u: Tensor) -> Tensor:
        """Attend within the (shifted) windows of a grid."""
        window, dims = self.attn.window, tuple(range(1, u.ndim - 1))
        shifts = [window // 2 if self.shifted and u.shape[d] > window else 0 for d in dims]
        rolled = u.roll([-s for s in shifts], dims) if any(shifts) else u
        out = torch.empty_like(rolled, memory_format=torch.contiguous_format)
        parts = []
        for place, sides in window_parts(u.shape[1:-1], shifts, window):
            windows = cut_windows(rolled[(slice(None), *place)], sides)
            parts.append((place, sides, self.attn(windows, sides)))
        if len(parts) == 1:
            out = join_windows(parts[0][2], u.shape, parts[0][1])
        else:
            for place, sides, windows in parts:
                target = out[(slice(None), *place)]
                target.copy_(join_windows(windows, target.shape, sides))
        return out.roll(shifts, dims) if any(shifts) else out


class SwinStack(nn.Module):
    """Swin blocks in turn, every second one shifted, and a final norm that the caller may apply."""

    def __init__(self, width: int, window: int, dims: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SwinBlock(width, window, dims, shifted=i % 2 == 1) for i in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map a grid ``[B,n1,..,nD,C]`` to the same shape, without the final norm."""
        for block in self.blocks:
            x = block(x)
        return x


def window_parts(
    sizes: Sequence[int], shifts: Sequence[int], window: int
) -> Iterator[tuple[tuple[slice, ...], tuple[int, ...]]]:
    """Yield the places of a (rolled) grid that are cut alike, each with the sides of its windows there."""
    choices = []
    for size, shift in zip(sizes, shifts, strict=True):
        if size % window:
            raise ValueError(f"a grid of {tuple(sizes)} cells cannot be cut into windows of {window}: use multiples")
        if shift:
            choices.append([(slice(0, size - window), window), (slice(size - window, size), shift)])
        else:
            choices.append([(slice(0, size), window)])
    for combination in itertools.product(*choices):
        yield tuple(place for place, _ in combination), tuple(side for _, side in combination)


def cut_windows(grid: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut ``[B,m1,..,mD,C]`` into windows ``[B * windows,N,C]``, batch slowest, cells of a window row-major."""
    d, c = len(sides), grid.shape[-1]
    pairs = [n for m, side in zip(grid.shape[1:-1], sides, strict=True) for n in (m // side, side)]
    order = [0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1]
    cells = 1
    for side in sides:
        cells *= side
    return grid.reshape(len(grid), *pairs, c).permute(order).reshape(-1, cells, c)


def join_windows(windows: Tensor, shape: Sequence[int], sides: Sequence[int]) -> Tensor:
    """Undo :func:`cut_windows` for a grid of ``shape`` ``[B,m1,..,mD,C]``."""
    d, c = len(sides), shape[-1]
    counts = [m // side for m, side in zip(shape[1:-1], sides, strict=True)]
    order = [0, *(axis for i in range(d) for axis in (1 + i, 1 + d + i)), 2 * d + 1]
    return windows.reshape(shape[0], *counts, *sides, c).permute(order).reshape(*shape)


def relative_index(sides: Sequence[int], window: int, device: torch.device) -> Tensor:
    """Return ``[N,N]`` positions in the bias table of a window of side ``window``: query cell by row, key by column."""
    index = torch.zeros((), dtype=torch.long, device=device)
    for axis, side in enumerate(sides):
        coordinates = torch.arange(side, device=device)
        difference = coordinates[:, None] - coordinates[None, :] + window - 1
        shape = [1] * (2 * len(sides))
        shape[axis], shape[axis + len(sides)] = side, side
        index = index * (2 * window - 1) + difference.view(shape)
    cells = int(index.numel() ** 0.5)
    return index.reshape(cells, cells)
