"""Group normalisation (Wu and He, ECCV 2018) of channels-last tensors, optionally followed by ReLU.

PyTorch's channels-last kernel sums squares in one float32 accumulator. Over the 400,000 cells of a correlation volume
its variance is wrong by up to half a percent. Here the moments are computed in blocks, around each block's mean, and
then combined. This takes about the same time and agrees with the exact value up to rounding. The backward pass is a
closed form in the same layout.
"""

from typing import Any

import torch
from torch import Tensor, nn

_EPS = 1e-5
_ROWS = 1 << 11  # about the number of positions per float32 accumulator


def group_norm(norm: nn.GroupNorm, x: Tensor, *, relu: bool) -> Tensor:
    """Normalise ``[B,...,C]`` over all positions of a sample and the channels of a group.

    Args:
        norm: the module with the groups, weights and biases; its epsilon must be 1e-5.
        x: ``[B,...,C]`` of any floating-point dtype. The arithmetic is float32, or float64 for float64.
        relu: apply ReLU to the result.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    assert norm.eps == _EPS
    y = _GroupNorm.apply(x.flatten(1, -2), norm.weight, norm.bias, norm.num_groups, relu)
    assert isinstance(y, Tensor)
    return y.view(x.shape)


class GroupNormReLU(nn.GroupNorm):
    """Group normalisation and ReLU of images ``[B,C,H,W]``, exact in both memory formats."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(norm(x))`` in the memory format of ``x``."""
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            return group_norm(self, x.permute(0, 2, 3, 1), relu=True).permute(0, 3, 1, 2)
        return super().forward(x).relu_()


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, relu: bool) -> Tensor:
        mean, rstd = _statistics(x, groups)
        width = x.shape[2] // groups
        scale = rstd.repeat_interleave(width, 1) * weight.to(rstd.dtype)
        shift = bias.to(rstd.dtype) - mean.repeat_interleave(width, 1) * scale
        y = torch.addcmul(shift[:, None], x, scale[:, None]).to(x.dtype)
        if relu:
            y.relu_()
        ctx.save_for_backward(x, weight, mean, rstd, y if relu else x.new_empty(0))
        ctx.relu = relu
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd, y = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        exact_on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()
        gx, gw, gb = (native_backward if exact_on_cpu else closed_backward)(grad, x, weight, mean, rstd)
        return gx, gw.to(weight.dtype), gb.to(weight.dtype), None, None


def native_backward(grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of :func:`closed_backward` by torch's kernel, which takes half the time on a CPU.

    CUDA's kernel before torch 2.15 refuses channels-last planes or returns wrong gradients for them (pytorch#186414).
    In half precision both kernels round the statistics.
    """
    b, n, c = x.shape
    planes = [t.view(b, n, 1, c).permute(0, 3, 1, 2) for t in (grad.contiguous(), x)]
    gx, gw, gb = torch.ops.aten.native_group_norm_backward(
        *planes, mean, rstd, weight.to(x.dtype), b, c, n, mean.shape[1], [True, True, True]
    )
    return gx.permute(0, 2, 3, 1).reshape(b, n, c), gw, gb


def closed_backward(grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of the input ``[B,N,C]``, the weights and the biases.

    With x' = (x - mean) * rstd, and averages over the N * C / groups values of a group, the gradient of x is
    rstd * (grad * weight - average(grad * weight) - x' * average(grad * weight * x')).

    Args:
        grad: gradient of the normalised tensor, ``[B,N,C]``.
        x: the input, ``[B,N,C]``.
        weight: ``[C]``.
        mean: ``[B,groups]``, in the dtype of the arithmetic.
        rstd: reciprocal standard deviations, ``[B,groups]``.
    """
    (b, n, c), groups = x.shape, mean.shape[1]
    weight = weight.to(mean.dtype)
    mean_c, rstd_c = (t.repeat_interleave(c // groups, 1) for t in (mean, rstd))
    sums = grad.sum(1, dtype=mean.dtype)  # [B,C]
    products = (x - mean_c[:, None]).mul_(grad).sum(1) * rstd_c

    def average(channels: Tensor) -> Tensor:
        of_group = (channels * weight).view(b, groups, -1).sum(2) / (n * (c // groups))
        return of_group.repeat_interleave(c // groups, 1)

    slope = -rstd_c.square() * average(products)
    offset = -rstd_c * average(sums) - mean_c * slope
    gx = torch.addcmul(offset[:, None], x, slope[:, None]).addcmul_(grad, (rstd_c * weight)[:, None])
    return gx.to(x.dtype), products.sum(0), sums.sum(0)


def _statistics(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the reciprocal standard deviation ``[B,groups]`` of ``[B,N,C]``, at least float32."""
    b, n, c = x.shape
    if x.device.type != "cpu" or x.dtype == torch.float64 or torch.compiler.is_compiling():
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if torch.compiler.is_exporting():
            return _statistics_by_rows(wide.view(b, n, groups, -1))
        variance, mean = torch.var_mean(wide.view(b, n, groups, -1), (1, 3), correction=0)
        return mean, (variance + _EPS).rsqrt()
    count = max(1, n // _ROWS)  # blocks are interleaved: position i is in block i modulo count
    whole = n - n % count
    pieces = [x[:, :whole].reshape(b, -1, count * c), x[:, whole:]]
    means, variances, shares = [], [], []
    for piece in (piece for piece in pieces if piece.shape[1]):
        stats = [torch.batch_norm_update_stats(sample, None, None, 0.0) for sample in piece.float()]
        mean, variance = (torch.stack(each).view(b, -1, groups, c // groups) for each in zip(*stats, strict=True))
        means.append(mean)
        variances.append(variance)
        shares.append(mean.new_full((mean.shape[1], 1, 1), piece.shape[1] / n * groups / c))
    # The moments of blocks and channels are combined around the common mean, without cancellation.
    means_, variances_, share = torch.cat(means, 1), torch.cat(variances, 1), torch.cat(shares)
    mean = (means_ * share).sum((1, 3))
    variance = ((variances_ + (means_ - mean[:, None, :, None]).square()) * share).sum((1, 3))
    return mean, (variance + _EPS).rsqrt()


def _statistics_by_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the reciprocal standard deviation ``[B,groups]`` of ``[B,N,groups,width]``, for export.

    Other runtimes add up a long axis in one float32, so it is averaged in rows, and the averages of the rows then.
    """
    b, n, groups, width = x.shape
    rows = next(rows for rows in range(int(n**0.5), 0, -1) if n % rows == 0)

    def average(values: Tensor) -> Tensor:
        return values.reshape(b, rows, n // rows, groups, width).mean(2).mean((1, 3))

    mean = average(x)
    variance = average((x - mean[:, None, :, None]).square())
    return mean, (variance + _EPS).rsqrt()
