"""Attention for a large batch of small problems, with few keys or few channels per head.

ASNet computes attention separately at every query position: 20,000 problems of 49 x 49 cells with two channels per
head, or of 4 x 4 cells with eight. A fused kernel spends more time on each call than on its arithmetic. Here the batch
is the last axis, and every step is elementwise over it, in blocks that fit the processor's cache. The backward pass
recomputes the attention weights from the saved log-sum-exp of the logits.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_ELEMENTS_AT_ONCE = 1 << 18


def thin_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Return ``softmax(q k^T + bias) v`` without a scale factor.

    Args:
        q: queries ``[N,L,C]``; each head has ``C / heads`` adjacent channels.
        k: keys ``[N,M,C]``.
        v: values ``[N,M,C]``.
        bias: ``[N,M]``, 0 or minus infinity, or None. Each item needs at least one 0.
        heads: number of heads.

    Returns:
        ``[N,L,C]``, float32.
    """
    result = _ThinAttention.apply(q, k, v, bias, heads)
    assert isinstance(result, Tensor)
    return result


class _ThinAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int) -> Tensor:
        columns = [_to_columns(t, heads) for t in (q, k, v)]
        bias = None if bias is None else bias.t().contiguous()
        qt, kt, vt = columns
        out = torch.empty_like(qt)
        log_sum_exp = qt.new_empty(qt.shape[0], heads, qt.shape[3])
        for h, rows in _blocks(qt, kt):
            logits = _logits(qt[rows, h], kt[:, h], bias)
            maximum = logits.amax(1)
            weights = logits.sub_(maximum[:, None]).exp_()
            total = weights.sum(1)
            for c in range(vt.shape[2]):
                torch.div((weights * vt[:, h, c]).sum(1), total, out=out[rows, h, c])
            log_sum_exp[rows, h] = maximum.add_(total.log_())
        ctx.save_for_backward(*columns, out, log_sum_exp, bias)
        ctx.heads = heads
        return _from_columns(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qt, kt, vt, out, log_sum_exp, bias = ctx.saved_tensors
        gt = _to_columns(grad, ctx.heads)
        gq, gk, gv = torch.empty_like(qt), torch.zeros_like(kt), torch.zeros_like(vt)
        for h, rows in _blocks(qt, kt):
            q, g = qt[rows, h], gt[rows, h]
            weights = _logits(q, kt[:, h], bias).sub_(log_sum_exp[rows, h][:, None]).exp_()
            gs = _logits(g, vt[:, h], None).sub_((g * out[rows, h]).sum(1)[:, None]).mul_(weights)
            for c in range(qt.shape[2]):
                torch.sum(gs * kt[:, h, c], 1, out=gq[rows, h, c])
                gk[:, h, c] += (gs * q[:, c, None]).sum(0)
                gv[:, h, c] += (weights * g[:, c, None]).sum(0)
        return _from_columns(gq), _from_columns(gk), _from_columns(gv), None, None


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield heads and blocks of query rows whose logits fit the cache."""
    step = max(1, _ELEMENTS_AT_ONCE // (k.shape[0] * k.shape[3]))
    for head in range(q.shape[1]):
        for start in range(0, q.shape[0], step):
            yield head, slice(start, start + step)


def _logits(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Return the dot products ``[L,M,N]`` of columns ``[L,d,N]`` and ``[M,d,N]``, plus the bias ``[M,N]``."""
    logits = q[:, None, 0] * k[None, :, 0]
    for c in range(1, q.shape[1]):
        logits.addcmul_(q[:, None, c], k[None, :, c])
    return logits if bias is None else logits.add_(bias)


def _to_columns(x: Tensor, heads: int) -> Tensor:
    """Rearrange ``[N,L,C]`` to float32 ``[L,heads,C/heads,N]``."""
    n, length, c = x.shape
    # A matrix is transposed in blocks that fit the cache; the same permutation of three dimensions takes three times.
    return x.reshape(n, -1).float().t().contiguous().view(length, heads, c // heads, n)


def _from_columns(x: Tensor) -> Tensor:
    return x.flatten(1, 2).permute(2, 0, 1).contiguous()
