"""Exact attention with a learned additive bias that does not store the attention weights.

PyTorch's fused kernels give no gradient for a bias, and its plain path stores ``windows x heads x N x N`` logits. Here
the forward pass uses the fused kernel, and the backward pass recomputes the weights of a few windows at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_LOGITS_AT_ONCE = {"cpu": 1 << 20}  # 4 MB, so that a block stays in the processor's cache


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Return ``softmax(q k^T / sqrt(d) + bias) v``.

    Args:
        q: queries ``[W,heads,N,d]`` of W windows.
        k: keys ``[W,heads,N,d]``.
        v: values ``[W,heads,N,d]``.
        bias: ``[heads,N,N]``, shared by all windows.

    Returns:
        ``[W,heads,N,d]`` in the dtype of ``q``.
    """
    result = _BiasedAttention.apply(q, k, v, bias)
    assert isinstance(result, Tensor)
    return result


class _BiasedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        bias = bias.contiguous()  # the fused kernel of CPUs takes no other, and the plain path takes twice the time
        mask = bias.to(q.dtype)[None].expand(len(q), -1, -1, -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        ctx.save_for_backward(q, k, v, bias, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        q, k, v, bias, out = ctx.saved_tensors
        step = max(1, _LOGITS_AT_ONCE.get(q.device.type, 1 << 26) // bias.numel())
        gq, gk, gv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        gbias = torch.zeros_like(bias, dtype=torch.float32)
        for part in (slice(start, start + step) for start in range(0, len(q), step)):
            gq[part], gk[part], gv[part], gs = _backward(q[part], k[part], v[part], bias, out[part], grad[part])
            gbias += gs
        return gq, gk, gv, gbias.to(bias.dtype)


def _backward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of the queries, keys, values and bias for a block of windows."""
    scale = float(q.shape[-1]) ** -0.5
    weights = torch.add(bias, (q @ k.transpose(-1, -2)).float(), alpha=scale).softmax(-1)
    inner = (grad * out).sum(-1, keepdim=True, dtype=torch.float32)
    gs = ((grad @ v.transpose(-1, -2)).float() - inner).mul_(weights)
    half = gs.to(q.dtype)
    gq, gk = (half @ k).mul_(scale), (half.transpose(-1, -2) @ q).mul_(scale)
    return gq, gk, weights.to(q.dtype).transpose(-1, -2) @ grad, gs.sum(0)
