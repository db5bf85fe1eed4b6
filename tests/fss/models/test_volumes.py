"""The 4-D operations agree with simple reference implementations."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fss.models.layers.attention import biased_attention
from fss.models.layers.correlation import correlate, l2_normalise, resize_query, swap_images
from fss.models.layers.dropout import EpisodeDropout2d
from fss.models.layers.norm import (
    GroupNormReLU,
    _GroupNorm,
    _statistics,
    closed_backward,
    group_norm,
    native_backward,
)
from fss.models.learners import asnet_layers
from fss.models.learners.asnet_layers import attend, convolve_by_matmul
from fss.models.learners.hsnet import CentrePivotConv4d, CorrelationConv4d, _dense_matrix
from fss.models.learners.swin import SwinBlock, relative_index
from fss.models.learners.thin_attention import thin_attention
from fss.models.learners.vat_embedding import PooledConv4d, pool_pairs

TIGHT = {"rtol": 1e-4, "atol": 1e-5}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_correlation_is_the_clipped_cosine_of_every_pair():
    query, support = (
        [randn(2, 5, 3, 4), randn(2, 6, 3, 4, seed=1)],
        [randn(2, 5, 2, 3, seed=2), randn(2, 6, 2, 3, seed=3)],
    )
    volume = correlate([l2_normalise(m) for m in query], [l2_normalise(m) for m in support])
    for i, (q, s) in enumerate(zip(query, support, strict=True)):
        cosine = torch.einsum(
            "bcij,bckl->bijkl", q / (q.norm(dim=1, keepdim=True) + 1e-5), s / (s.norm(dim=1, keepdim=True) + 1e-5)
        )
        torch.testing.assert_close(volume[:, :, :, i], cosine.clamp(min=0), **TIGHT)
    grads = correlate([q.requires_grad_() for q in query], support)
    torch.testing.assert_close(grads, correlate([q.detach() for q in query], support))


def centre_pivot(x, conv1, conv2, stride):
    """The definition, on ``[B,C,hq,wq,hs,ws]``, cell by cell."""
    thin = x[..., ::stride, ::stride]
    over_query = torch.stack(
        [torch.stack([conv1(thin[..., i, j]) for j in range(thin.shape[-1])], -1) for i in range(thin.shape[-2])],
        -2,
    )
    over_support = torch.stack(
        [
            torch.stack(
                [F.conv2d(x[:, :, i, j], conv2.weight, conv2.bias, stride, conv2.padding) for j in range(x.shape[3])], 2
            )
            for i in range(x.shape[2])
        ],
        2,
    )
    return over_query + over_support


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 5), (5, 4, 7), (3, 1, 2), (5, 1, 2), (3, 1, 3)])
def test_centre_pivot_convolution(kernel, stride, side):
    conv = CentrePivotConv4d(3, 4, kernel)
    fresh = CorrelationConv4d(3, 4, kernel)
    fresh.load_state_dict(conv.state_dict())
    x = randn(2, 3, 4, 5, side, side)
    with torch.no_grad():
        expected = centre_pivot(x, conv.conv1, conv.conv2, stride).permute(0, 2, 3, 4, 5, 1)
        torch.testing.assert_close(conv(x.permute(0, 2, 3, 4, 5, 1).contiguous(), stride), expected, **TIGHT)
        torch.testing.assert_close(fresh(x.permute(0, 2, 3, 1, 4, 5).contiguous(), stride), expected, **TIGHT)


def test_a_convolution_on_few_cells_is_one_matrix():
    conv = nn.Conv2d(3, 5, 3, padding=1)
    x = randn(7, 2, 2, 3)
    weight, bias = _dense_matrix(conv, 2, 2)
    expected = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(F.linear(x.flatten(1), weight, bias).view(7, 2, 2, 5), expected, **TIGHT)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(5, 4, 2, 7), (3, 2, 1, 4), (2, 2, 0, 4), (1, 1, 0, 2)]
)
def test_a_convolution_by_matrix_products_and_its_gradients(kernel, stride, padding, side):
    conv = nn.Conv2d(3, 5, kernel, stride, padding).double()
    x = randn(7, side, side, 3).double().requires_grad_()
    inputs = [x, conv.weight, conv.bias]
    got, expected = convolve_by_matmul(*inputs, stride, padding), conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(got, expected)
    grad = randn(*expected.shape, seed=1).double()
    pairs = (torch.autograd.grad(y, inputs, grad) for y in (got, expected))
    for g, e in zip(*pairs, strict=True):
        torch.testing.assert_close(g, e)


def test_resize_of_the_query_dimensions():
    x = randn(1, 3, 4, 2, 2, 5)
    expected = torch.stack(
        [
            F.interpolate(x[..., i, j, :].permute(0, 3, 1, 2), (6, 7), mode="bilinear", align_corners=True)
            for i in range(2)
            for j in range(2)
        ],
        -1,
    )
    got = resize_query(x, (6, 7)).flatten(3, 4).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(got, expected, **TIGHT)


@pytest.mark.parametrize("relu", [False, True])
def test_group_norm_and_its_gradients(relu):
    norm = nn.GroupNorm(4, 8)
    with torch.no_grad():
        norm.weight.copy_(randn(8, seed=2))
        norm.bias.copy_(randn(8, seed=3))
    x, grad = (randn(2, 5, 6, 7, 8) * 2 + 30).requires_grad_(), randn(2, 5, 6, 7, 8, seed=1)
    got = group_norm(norm, x, relu=relu)
    gradients = torch.autograd.grad(got, [x, norm.weight, norm.bias], grad)
    exact = copy.deepcopy(norm).double()
    xd = x.detach().double().requires_grad_()
    expected = exact(xd.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    expected = expected.relu() if relu else expected
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    exact_gradients = torch.autograd.grad(expected, [xd, exact.weight, exact.bias], grad.double())
    for g, e in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_group_norm_agrees_with_finite_differences(relu):
    norm = nn.GroupNorm(2, 6).double()
    x = (randn(2, 3, 4, 6).double() * 2 + 1).requires_grad_()
    with torch.no_grad():
        norm.weight.copy_(randn(6, seed=2))
        norm.bias.copy_(randn(6, seed=3))
    inputs = (x, norm.weight, norm.bias)

    def run(x, weight, bias):
        return _GroupNorm.apply(x.flatten(1, -2), weight, bias, 2, relu)

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_closed_form_of_the_backward_pass_is_torchs(batch):
    x, grad, weight = randn(batch, 500, 24) * 3 + 5, randn(batch, 500, 24, seed=1), randn(24, seed=2)
    mean, rstd = _statistics(x, 4)
    pairs = zip(closed_backward(grad, x, weight, mean, rstd), native_backward(grad, x, weight, mean, rstd), strict=True)
    for closed, native in pairs:
        torch.testing.assert_close(closed, native, rtol=1e-4, atol=1e-4)


def test_the_closed_form_halves_the_error_of_half_precision():
    """Of torch's kernel, which casts the statistics; what is left for the input is the rounding of the result."""
    x, grad, weight = (randn(2, 4000, 32) * 2 + 1).bfloat16(), randn(2, 4000, 32, seed=1).bfloat16(), randn(32, seed=2)
    mean, rstd = _statistics(x, 4)
    exact = closed_backward(*(t.double() for t in (grad, x, weight, mean, rstd)))
    planes = [t.view(2, 4000, 1, 32).permute(0, 3, 1, 2) for t in (grad, x)]
    stats = [t.bfloat16() for t in (mean, rstd, weight)]
    gx, gw, _ = torch.ops.aten.native_group_norm_backward(*planes, *stats, 2, 32, 4000, 4, [True, True, True])
    ours = closed_backward(grad, x, weight, mean, rstd)

    def error(value, index, rounded):
        return (value.double() - rounded(exact[index])).norm() / exact[index].norm()

    assert error(ours[0], 0, lambda e: e.bfloat16().double()) < 0.5 * error(
        gx.permute(0, 2, 3, 1).flatten(1, 2), 0, lambda e: e.bfloat16().double()
    )
    assert error(ours[1], 1, lambda e: e) < 0.01 * error(gw, 1, lambda e: e)


def test_group_norm_is_exact_where_channels_last_kernels_are_not():
    x = (randn(1, 16, 300, 300) + 3).to(memory_format=torch.channels_last)
    norm = GroupNormReLU(4, 16)
    exact = norm.double()(x.contiguous().double()).float()
    assert (norm.float()(x) - exact).abs().max() < 1e-5


def test_attention_with_a_bias_has_the_gradients_of_the_plain_form():
    q, k, v = (randn(9, 2, 16, 4, seed=i).requires_grad_() for i in range(3))
    bias = randn(2, 16, 16, seed=4).requires_grad_()
    expected = (q @ k.transpose(-1, -2) / 2 + bias).softmax(-1) @ v
    got = biased_attention(q, k, v, bias)
    torch.testing.assert_close(got, expected, **TIGHT)
    grad = randn(*got.shape, seed=5)
    inputs = [q, k, v, bias]
    for g, e in zip(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True):
        torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-4)


def test_attention_runs_in_the_fused_kernel_whatever_the_layout_of_the_bias():
    q, k, v = randn(3, 9, 2, 16, 4)
    bias = randn(16, 16, 2).permute(2, 0, 1)
    with torch.profiler.profile() as profile:
        biased_attention(q, k, v, bias)
    assert any("flash_attention" in event.key for event in profile.key_averages())


def test_relative_index_of_windows_in_four_and_two_dimensions():
    four, two = (relative_index([side] * dims, side, torch.device("cpu")) for side, dims in ((4, 4), (8, 2)))
    assert [four[0, 0].item(), four[0, 1].item(), four[1, 0].item(), four[0, 255].item(), four[255, 0].item()] == [
        *(1200, 1199, 1201, 0, 2400)
    ]
    assert [two[0, 0].item(), two[0, 1].item(), two[1, 0].item(), two[0, 63].item(), two[63, 0].item()] == [
        *(112, 111, 113, 0, 224)
    ]


def masked_attention(block, u):
    """The textbook shifted windows: roll, cut, add -100 between regions, roll back."""
    attn, w, sizes = block.attn, block.attn.window, u.shape[1:-1]
    dims = tuple(range(1, u.ndim - 1))
    s = w // 2
    rolled = u.roll([-s] * len(dims), dims)
    labels = torch.zeros(sizes, dtype=torch.long)
    for axis, n in enumerate(sizes):
        c = torch.arange(n)
        label = (c >= n - w).long() + (c >= n - s).long()
        labels = labels * 3 + label.view([-1 if i == axis else 1 for i in range(len(sizes))])

    def cut(x):
        pairs = [p for n in sizes for p in (n // w, w)]
        d = len(sizes)
        order = [0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1]
        return x.reshape(len(x), *pairs, -1).permute(order).flatten(1, d).flatten(2, -2)

    regions = cut(labels[None, ..., None])[0, :, :, 0]
    mask = (regions[:, :, None] != regions[:, None, :]).float() * -100
    x = cut(rolled)
    b, nw, n, c = x.shape
    q, k, v = attn.qkv(x).view(b, nw, n, 3, attn.heads, -1).permute(3, 0, 1, 4, 2, 5)
    logits = q @ k.transpose(-1, -2) * (c // attn.heads) ** -0.5 + attn.bias([w] * len(sizes)) + mask[None, :, None]
    out = attn.proj((logits.softmax(-1) @ v).transpose(2, 3).reshape(b, nw, n, c))
    d = len(sizes)
    out = out.view(b, *[m // w for m in sizes], *[w] * d, c)
    order = [0, *(a for i in range(d) for a in (1 + i, 1 + d + i)), 2 * d + 1]
    return out.permute(order).reshape(u.shape).roll([s] * len(dims), dims)


@pytest.mark.parametrize(("window", "sizes"), [(4, (8, 12)), (2, (4, 6, 4, 4)), (4, (8, 8, 8, 8))])
def test_shifted_windows_need_no_mask(window, sizes):
    torch.manual_seed(0)
    block = SwinBlock(8, window, len(sizes), shifted=True)
    nn.init.normal_(block.attn.relative_position_bias_table)
    u = randn(2, *sizes, 8)
    with torch.no_grad():
        torch.testing.assert_close(block.attend(u), masked_attention(block, u), **TIGHT)
    with pytest.raises(ValueError, match="multiples"):
        block.attend(randn(1, *(s + 1 for s in sizes), 8))


def test_pooled_convolution_of_the_volume_embedding():
    conv = PooledConv4d(3, 4, (2, 2))
    x = randn(1, 4, 6, 8, 4, 3)
    x6 = x.permute(0, 5, 1, 2, 3, 4)
    pool_s = F.max_pool2d(x6.reshape(-1, 8, 4), 2).view(1, 3, 4, 6, 4, 2)
    pool_q = F.max_pool2d(x6.permute(0, 1, 4, 5, 2, 3).reshape(-1, 4, 6), 2).view(1, 3, 8, 4, 2, 3)
    query = F.conv2d(pool_s.permute(0, 4, 5, 1, 2, 3).flatten(0, 2), conv.query_conv.weight, conv.query_conv.bias, 2, 1)
    supp = F.conv2d(pool_q.permute(0, 4, 5, 1, 2, 3).flatten(0, 2), conv.supp_conv.weight, conv.supp_conv.bias, 2, 1)
    expected = query.view(1, 4, 2, 4, 2, 3).permute(0, 4, 5, 1, 2, 3) + supp.view(1, 2, 3, 4, 4, 2).permute(
        0, 1, 2, 4, 5, 3
    )
    torch.testing.assert_close(conv(x), expected, **TIGHT)


def test_the_gradient_of_pooled_pairs_is_that_of_max_pooling():
    x = randn(2, 4, 6, 8, 4, 3).mul(2).round().requires_grad_()  # some values of a pair are equal
    grad = randn(2, 4, 6, 4, 2, 3, seed=1)
    planes = x.permute(0, 1, 2, 5, 3, 4).flatten(0, 3)
    expected = F.max_pool2d(planes, (2, 1))
    expected = F.max_pool2d(expected, (1, 2)).view(2, 4, 6, 3, 4, 2).permute(0, 1, 2, 4, 5, 3)
    got = pool_pairs(x, 3, 2)
    assert torch.equal(got, expected)
    ours, theirs = (torch.autograd.grad(y, x, grad)[0] for y in (got, expected))
    assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(pool_pairs(x, 3, 2), got)


def test_a_raw_correlation_swaps_its_images():
    volume = randn(2, 3, 4, 5, 6, 7).requires_grad_()
    swapped = swap_images(volume)
    assert swapped.is_contiguous()
    assert torch.equal(swapped, volume.permute(0, 4, 5, 3, 1, 2))
    grad = randn(*swapped.shape, seed=1)
    assert torch.equal(torch.autograd.grad(swapped, volume, grad)[0], grad.permute(0, 4, 5, 3, 1, 2))


def plain_attention(q, k, v, visible):
    """``q`` [N,l,C], ``k`` and ``v`` [N,m,C], ``visible`` [N,m]: 8 heads, no scale, hidden keys at -1e9."""
    q, k, v = (t.view(*t.shape[:2], 8, -1).transpose(1, 2) for t in (q, k, v))
    logits = (q @ k.transpose(-1, -2)).masked_fill(~visible[:, None, None], -1e9)
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def test_squeeze_attention_hides_cells_that_are_exactly_zero_and_only_those():
    q, k, v = randn(6, 2, 2, 16), randn(6, 4, 4, 16, seed=1), randn(6, 4, 4, 16, seed=2)
    mask = torch.zeros(2, 31, 31)
    mask[0, 9:11, 9:11] = 1  # reaches one sample point of the 4 x 4 key grid
    mask[0, 20, 11] = 0.4  # on a sample point: soft, below one half, still visible
    mask[1, 3:5, 3:5] = 1  # misses every sample point: all keys weigh the same
    visible = F.interpolate(mask[:, None], (4, 4), mode="bilinear", align_corners=True).flatten(1) != 0
    assert visible.sum(1).tolist() == [1, 0]
    mask[0, 20, 10] = 0.4
    visible = F.interpolate(mask[:, None], (4, 4), mode="bilinear", align_corners=True).flatten(1) != 0
    assert visible.sum(1).tolist() == [2, 0]
    expected = plain_attention(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), visible.repeat_interleave(3, 0))
    torch.testing.assert_close(attend(q, k, v, mask).flatten(1, -2), expected, **TIGHT)
    alone = attend(q[:3], k[:3], v[:3], mask[:1])  # unseen keys are left out altogether
    torch.testing.assert_close(alone.flatten(1, -2), expected[:3], **TIGHT)


@pytest.mark.parametrize(("channels", "keys"), [(8, 5), (16, 24), (64, 4)])
def test_attention_with_few_channels_of_keys_has_the_gradients_of_the_plain_form(channels, keys):
    q, k, v = (randn(6, n, channels, seed=i).requires_grad_() for i, n in enumerate((3, keys, keys)))
    visible = randn(6, keys, seed=3) > -1
    visible[:, 0] = True
    bias = torch.zeros(6, keys).masked_fill_(~visible, -torch.inf)
    got, expected = thin_attention(q, k, v, bias, 8), plain_attention(q, k, v, visible)
    torch.testing.assert_close(got, expected, **TIGHT)
    grad = randn(*expected.shape, seed=4)
    pairs = (torch.autograd.grad(y, [q, k, v], grad) for y in (got, expected))
    for g, e in zip(*pairs, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-5)


def test_dropout_is_a_function_of_the_episode():
    dropout = EpisodeDropout2d(0.5)
    x = torch.ones(3, 64, 2, 2)
    dropout.keys = torch.tensor([5, 2**32 - 1, 5])
    whole = dropout(x, 0)
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(whole[0], whole[2])
    dropout.keys = dropout.keys[1:]
    assert torch.equal(dropout(x[1:], 0), whole[1:]), "the other episodes of the batch have no part in it"
    assert not torch.equal(dropout(x[1:], 1), whole[1:]), "each layer has its own mask"
    dropout.keys = torch.arange(400) * 7919
    kept = dropout(torch.ones(400, 64, 1, 1), 1).flatten(1) > 0
    assert abs(kept.double().mean() - 0.5) < 0.01
    assert kept.double().mean(0).sub(0.5).abs().max() < 0.12
    assert kept.double().mean(1).sub(0.5).abs().max() < 0.25
    assert torch.equal(dropout.eval()(x, 0), x)


def test_attention_in_launches_with_padded_heads_is_the_plain_one(monkeypatch):
    monkeypatch.setattr(asnet_layers, "_MOST_ITEMS", 4)
    q, k, v = (randn(10, 8, length, 2, seed=i).requires_grad_() for i, length in enumerate((3, 7, 7)))
    bias = torch.zeros(10, 1, 3, 7).masked_fill_(randn(10, 1, 1, 7, seed=5) > 1, -torch.inf)
    expected = (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
    grad = randn(*expected.shape, seed=6)
    gradients = torch.autograd.grad(expected, [q, k, v], grad)
    for aligned in (False, True):
        got = asnet_layers.attend_in_launches(q, k, v, bias, aligned=aligned)
        torch.testing.assert_close(got, expected, **TIGHT)
        for g, e in zip(torch.autograd.grad(got, [q, k, v], grad), gradients, strict=True):
            torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-4)
