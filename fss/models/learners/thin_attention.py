"""Attention for very many, very thin problems: thousands of query positions, heads of two channels, few keys.

ASNet attends at every query position apart, 20,000 problems of 49 x 49 cells with two channels; a kernel call for each
costs more than its arithmetic. Here the problems stand along the last axis and every step is elementwise over them, in
blocks that fit the cache; the backward pass recomputes the weights from their saved normaliser.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_ELEMENTS_AT_ONCE = 1 << 18


def thin_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Return ``softmax(q k^T + bias) v`` without a scale factor.

    Args:
        q: queries ``[N,L,C]``; head h owns channels ``h C / heads`` and the next.
        k: keys ``[N,M,C]``.
        v: values ``[N,M,C]``.
        bias: ``[N,M]``, 0 or minus infinity (not for every key of an item), or None.
        heads: number of heads.
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
        normaliser = qt.new_empty(qt.shape[0], heads, qt.shape[3])
        for h, rows in _blocks(qt, kt):
            logits = _logits(qt[rows, h], kt[:, h], bias)
            peak = logits.amax(1)
            weights = logits.sub_(peak[:, None]).exp_()
            total = weights.sum(1)
            for c in range(vt.shape[2]):
                torch.div((weights * vt[:, h, c]).sum(1), total, out=out[rows, h, c])
            normaliser[rows, h] = peak.add_(total.log_())
        ctx.save_for_backward(*columns, out, normaliser, bias)
        ctx.heads = heads
        return _from_columns(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qt, kt, vt, out, normaliser, bias = ctx.saved_tensors
        gt = _to_columns(grad, ctx.heads)
        gq, gk, gv = torch.empty_like(qt), torch.zeros_like(kt), torch.zeros_like(vt)
        for h, rows in _blocks(qt, kt):
            q, g = qt[rows, h], gt[rows, h]
            weights = _logits(q, kt[:, h], bias).sub_(normaliser[rows, h][:, None]).exp_()
            gs = _logits(g, vt[:, h], None).sub_((g * out[rows, h]).sum(1)[:, None]).mul_(weights)
            for c in range(qt.shape[2]):
                torch.sum(gs * kt[:, h, c], 1, out=gq[rows, h, c])
                gk[:, h, c] += (gs * q[:, c, None]).sum(0)
                gv[:, h, c] += (weights * g[:, c, None]).sum(0)
        return _from_columns(gq), _from_columns(gk), _from_columns(gv), None, None


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield head by head the rows whose logits fit the cache together."""
    step = max(1, _ELEMENTS_AT_ONCE // (k.shape[0] * k.shape[3]))
    for head in range(q.shape[1]):
        for start in range(0, q.shape[0], step):
            yield head, slice(start, start + step)


def _logits(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Return the products ``[l,M,N]`` of columns ``[l,d,N]`` and ``[M,d,N]``."""
    logits = q[:, None, 0] * k[None, :, 0]
    for c in range(1, q.shape[1]):
        logits.addcmul_(q[:, None, c], k[None, :, c])
    return logits if bias is None else logits.add_(bias)


def _to_columns(x: Tensor, heads: int) -> Tensor:
    """Turn ``[N,L,C]`` into float32 ``[L,heads,C/heads,N]``."""
    n, length, c = x.shape
    return x.permute(1, 2, 0).float().contiguous().view(length, heads, c // heads, n)


def _from_columns(x: Tensor) -> Tensor:
    return x.flatten(1, 2).permute(2, 0, 1).contiguous()
