"""The attentive squeeze layer of ASNet, which computes its convolutions over the support in one call.

Kang and Cho, "Integrative Few-Shot Learning for Classification and Segmentation", CVPR 2022, section 5. Module and key
names are the published ones.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.layers.correlation import convolve_channels_first
from fss.models.layers.explicit_resize import resize_masks
from fss.models.layers.norm import group_norm
from fss.models.learners.thin_attention import thin_attention

HEADS = 8

# With at most this many key channels per head, thin_attention is faster than the fused kernel (measured on one core).
_FEW_KEY_CHANNELS = 48
_MOST_ITEMS = 1 << 15  # in a launch of the fused kernel


def _point(cin: int, cout: int) -> nn.Conv3d:
    return nn.Conv3d(cin, cout, 1, bias=False)


class SqueezeAttention(nn.Module):
    """Attention from a strided support grid to the support cells, at every query position."""

    def __init__(self, cin: int, cout: int, kernel: int, *, pool_kv: bool) -> None:
        super().__init__()
        half, size = cout // 2, (1, kernel, kernel)
        if cin != cout or kernel > 1:
            self.short_cut: nn.Sequential | None = nn.Sequential(
                nn.Conv3d(cin, cout, size, bias=False), nn.GroupNorm(4, cout), nn.ReLU()
            )
        else:
            self.short_cut = None
        self.qhead = nn.Conv3d(cin, half, size)
        self.khead = nn.Conv3d(cin, half, size if pool_kv else 1)
        self.vhead = nn.Conv3d(cin, half, size if pool_kv else 1)
        self.agg = nn.Sequential(nn.GroupNorm(4, half), nn.ReLU(), _point(half, cout), nn.GroupNorm(4, cout), nn.ReLU())
        self.out_norm = nn.GroupNorm(4, cout)
        self.padding = kernel // 2 if kernel > 2 else 0
        self.pool_kv = pool_kv

    def forward(self, volume: Tensor, mask: Tensor, stride: int, *, raw: bool) -> Tensor:
        """Squeeze the support of a volume by ``stride``.

        Args:
            volume: ``[B,hq,wq,hs,ws,C]``, or a raw correlation ``[B,hq,wq,L,hs,ws]``.
            mask: ``[B,H,W]``; support cells where it is exactly 0 are hidden.
            stride: stride over the support.
            raw: whether ``volume`` is a raw correlation.

        Returns:
            ``[B,hq,wq,hs',ws',C']``.
        """
        b, hq, wq = volume.shape[:3]
        images = volume.flatten(0, 2) if raw else volume.flatten(0, 2).permute(0, 3, 1, 2)
        wide: list[nn.Module] = [self.qhead, self.khead, self.vhead] if self.pool_kv else [self.qhead]
        if self.short_cut is not None:
            wide.append(self.short_cut[0])
        outputs = convolve_jointly(images, wide, stride, self.padding)
        narrow = [] if self.pool_kv else convolve_jointly(images, [self.khead, self.vhead], 1, 0)
        q, k, v = [*outputs, *narrow][:3] if self.pool_kv else [outputs[0], *narrow]
        shape = (b, hq, wq, *q.shape[1:3])
        short_cut = volume if self.short_cut is None else _norm(self.short_cut[1], outputs[-1].view(*shape, -1))
        o = attend(q, k, v, mask).view(*shape, -1)
        o = _norm(self.agg[3], _linear(self.agg[2], _norm(self.agg[0], o)))
        return _norm(self.out_norm, o + short_cut, relu=False)


class FeedForward(nn.Module):
    """Two pointwise layers with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.ff = nn.Sequential(_point(width, half), nn.GroupNorm(4, half), nn.ReLU(), _point(half, width))
        self.out_norm = nn.GroupNorm(4, width)

    def forward(self, y: Tensor) -> Tensor:
        """Transform ``[...,C]``; the shape stays the same."""
        f = _linear(self.ff[3], _norm(self.ff[1], _linear(self.ff[0], y)))
        return _norm(self.out_norm, f + y, relu=False)


class SqueezeLayer(nn.Module):
    """One attentive squeeze layer: attention, then feed-forward."""

    def __init__(self, cin: int, cout: int, kernel: int, *, pool_kv: bool = False) -> None:
        super().__init__()
        self.attn = SqueezeAttention(cin, cout, kernel, pool_kv=pool_kv)
        self.ff = FeedForward(cout)

    def forward(self, volume: Tensor, mask: Tensor, stride: int = 1, *, raw: bool = False) -> Tensor:
        """Squeeze a volume; arguments and result as in :meth:`SqueezeAttention.forward`."""
        return self.ff(self.attn(volume, mask, stride, raw=raw))  # type: ignore[no-any-return]


def convolve_jointly(images: Tensor, convs: Sequence[nn.Module], stride: int, padding: int) -> list[Tensor]:
    """Apply several convolutions of the same kernel size to images ``[N,C,h,w]`` in one call.

    Returns:
        The result ``[N,h',w',C']`` of each convolution.

    Raises:
        ValueError: the images are smaller than the kernel.
    """
    conv3ds = [conv for conv in convs if isinstance(conv, nn.Conv3d)]
    weights = [conv.weight.squeeze(2) for conv in conv3ds]
    biases = [conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias for conv in conv3ds]
    weight, bias = torch.cat(weights), torch.cat(biases)
    kernel = weight.shape[-1]
    height, width = _grid(images.shape[-2:], kernel, stride, padding)
    if min(height, width) < 1:
        raise ValueError(
            f"a support grid of {images.shape[-2]} x {images.shape[-1]} cells is too small for ASNet's "
            f"{kernel} x {kernel} kernel; use larger images"
        )
    if height * width <= 4 and images.shape[1] >= 16:
        y = convolve_by_matmul(images.permute(0, 2, 3, 1), weight, bias, stride, padding)
    elif images.is_contiguous():
        y = convolve_channels_first(images, weight, bias, stride, padding)
    else:
        y = F.conv2d(images, weight.contiguous(memory_format=torch.channels_last), bias, stride, padding)
        y = y.permute(0, 2, 3, 1)
    return list(torch.split(y, [len(w) for w in weights], -1))


def convolve_by_matmul(images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Convolve ``[N,h,w,C]`` by one matrix product per output cell, which skips the padding.

    This is faster than a convolution where the result has few cells.
    """
    result = _CellProducts.apply(images, weight, bias, stride, padding)
    assert isinstance(result, Tensor)
    return result


class _CellProducts(torch.autograd.Function):
    """The products of the cells. Their gradients are added up in one tensor; autograd would fill one for each cell."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        height, width = ctx.grid = _grid(images.shape[1:3], weight.shape[-1], stride, padding)
        ctx.geometry = stride, padding
        cells = [
            F.linear(images[window].flatten(1), weight[taps].permute(0, 2, 3, 1).flatten(1), bias)
            for window, taps in _windows(ctx.grid, images.shape[1:3], weight.shape[-1], stride, padding)
        ]
        return torch.stack(cells, 1).view(len(images), height, width, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gx, gw = torch.zeros_like(images), torch.zeros_like(weight)
        windows = _windows(ctx.grid, images.shape[1:3], weight.shape[-1], *ctx.geometry)
        for g, (window, taps) in zip(grad.flatten(1, 2).unbind(1), windows, strict=True):
            patches, kernel = images[window].to(g.dtype), weight[taps].permute(0, 2, 3, 1).to(g.dtype)
            gx[window] += (g @ kernel.flatten(1)).view_as(patches)
            gw[taps] += (g.t() @ patches.flatten(1)).view_as(kernel).permute(0, 3, 1, 2)
        return gx, gw, grad.sum((0, 1, 2)), None, None


def _windows(
    grid: Sequence[int], size: Sequence[int], kernel: int, stride: int, padding: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield, for each output cell, the cells of ``[N,h,w,C]`` that its kernel covers, and the taps on them."""
    h, w = size
    for y, x in ((i * stride - padding, j * stride - padding) for i in range(grid[0]) for j in range(grid[1])):
        rows, cols = slice(max(y, 0), min(y + kernel, h)), slice(max(x, 0), min(x + kernel, w))
        taps = slice(rows.start - y, rows.stop - y), slice(cols.start - x, cols.stop - x)
        yield (slice(None), rows, cols), (slice(None), slice(None), *taps)


def _grid(size: Sequence[int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Return the rows and columns of a convolution's result."""
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in size)
    return height, width


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attend from ``q`` ``[N,hq,wq,C]`` to ``k`` and ``v`` ``[N,hk,wk,C]`` in 8 heads, without a scale factor.

    A key cell is hidden where the sample's mask ``[B,H,W]``, resized to the key grid, is exactly 0. If it is 0 in every
    cell, all cells have the same weight. N is a multiple of B, and the items of a sample are adjacent.

    Returns:
        ``[N,hq * wq,C]``.
    """
    n, c, repeats = len(q), q.shape[-1], len(q) // len(mask)
    visible = resize_masks(mask, k.shape[1:3]).flatten(1) != 0
    any_visible = visible.any(1, keepdim=True)
    q = q.flatten(1, 2) * any_visible.to(q.dtype).repeat_interleave(repeats, 0)[:, :, None]
    k, v, visible = k.flatten(1, 2), v.flatten(1, 2), visible | ~any_visible
    if mask.device.type == "cpu" and not torch.compiler.is_compiling():
        # Keys that are hidden in every sample have weight 0. Only the CPU omits them: on a GPU, finding them would
        # force a synchronisation.
        keys = visible.any(0).nonzero().flatten()
        if len(keys) < k.shape[1]:
            k, v, visible = k[:, keys], v[:, keys], visible[:, keys]
    bias = q.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)
    thin = k.shape[1] * c // HEADS <= _FEW_KEY_CHANNELS
    if thin and q.device.type == "cpu" and not torch.compiler.is_compiling():
        hidden = None if visible.all() else bias.repeat_interleave(repeats, 0)
        return thin_attention(q, k, v, hidden, HEADS)
    q, k, v = (t.reshape(n, -1, HEADS, c // HEADS).transpose(1, 2) for t in (q, k, v))
    bias = bias.repeat_interleave(repeats, 0)[:, None, None].expand(n, 1, q.shape[2], k.shape[2])
    return attend_in_launches(q, k, v, bias).transpose(1, 2).reshape(n, -1, c)


def attend_in_launches(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *, aligned: bool | None = None) -> Tensor:
    """Return ``softmax(q k^T + bias) v`` of heads ``[N,heads,L,d]``, for any N and d.

    CUDA's fused kernel takes at most 65,535 items in a launch, and only heads whose size is a multiple of 8. Without it
    torch stores the attention weights: 2.2 GB for 12 episodes of 400 pixels with heads of 2 channels.

    Args:
        q: queries ``[N,heads,L,d]``.
        k: keys ``[N,heads,M,d]``.
        v: values ``[N,heads,M,d]``.
        bias: ``[N,1,L,M]``.
        aligned: add zero channels up to a multiple of 8. None: on CUDA.
    """
    width = q.shape[-1]
    if q.device.type == "cuda" if aligned is None else aligned:
        q, k, v = (F.pad(t, (0, -width % 8)) for t in (q, k, v))
    launches = zip(*(torch.split(t, _MOST_ITEMS) for t in (q, k, v, bias)), strict=True)
    outputs = [F.scaled_dot_product_attention(q, k, v, bias, scale=1.0) for q, k, v, bias in launches]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[..., :width]


def _norm(norm: nn.Module, x: Tensor, *, relu: bool = True) -> Tensor:
    assert isinstance(norm, nn.GroupNorm)
    return group_norm(norm, x, relu=relu)


def _linear(conv: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(conv, nn.Conv3d)
    return F.linear(x, conv.weight.flatten(1))
