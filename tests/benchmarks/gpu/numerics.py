"""Sections 0 to 4: the environment, operators, networks, reference outputs and rendering, against the CPU."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fss.core.system import gpu_problem
from fss.episodes.augmentation import draw_view
from fss.episodes.config import VAT_TONES, AugmentConfig
from fss.episodes.rendering import render
from fss.images.resize import image_canvas, mask_canvas
from fss.models import load_published
from fss.models.layers.attention import biased_attention
from fss.models.layers.norm import GroupNormReLU, group_norm
from fss.models.learners.asnet_layers import attend_in_launches
from fss.models.precision import set_precision
from fss.training.few_shot.config import OptimizerConfig
from fss.training.few_shot.loop import TrainLoop
from tests.benchmarks.gpu.checks import Checks, cosine, error, network, step
from tests.benchmarks.gpu.data import RandomStream, painted
from tests.helpers.published_rule import golden_files, inputs_by_rule, published_state, read_golden

VIEWS = 8  # rendered views of each kind


def environment(checks: Checks) -> None:
    """Section 0: versions and devices."""
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")  # type: ignore[no-untyped-call]
    if checks.device.type == "cuda":
        checks.limit("0 torch can use the GPU", float(gpu_problem() is not None), 0)
        gpu = torch.cuda.get_device_properties(0)
        print(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, bf16 {torch.cuda.is_bf16_supported()}")


def operators(checks: Checks) -> None:
    """Section 1: group normalisation and attention against float64 on the CPU."""
    for batch, channels, dtype in ((1, 16, torch.float32), (2, 64, torch.float32), (2, 128, torch.bfloat16)):
        norm = nn.GroupNorm(4, channels)
        x, grad = (
            (torch.randn(batch, 40, 40, channels) * 2 + 1).to(dtype),
            torch.randn(batch, 40, 40, channels).to(dtype),
        )
        values = _with_gradients(partial(group_norm, norm.to(checks.device), relu=False), x, grad, checks.device)
        exact = _with_gradients(partial(group_norm, norm.cpu().double(), relu=False), x.double(), grad.double(), "cpu")
        limit = 1e-5 if dtype == torch.float32 else 5e-3
        _compare(checks, f"1 group norm B={batch} C={channels} {dtype}", values, exact, limit)
    images, grad = torch.randn(2, 16, 30, 30), torch.randn(2, 16, 30, 30)
    for form in (torch.contiguous_format, torch.channels_last):
        layer = GroupNormReLU(4, 16)
        values = _with_gradients(layer.to(checks.device), images.to(memory_format=form), grad, checks.device)
        exact = _with_gradients(layer.cpu().double(), images.double(), grad.double(), "cpu")
        _compare(checks, f"1 group norm and ReLU {str(form)[6:]}", values, exact, 1e-5)
    q, bias = torch.randn(300, 4, 16, 8), torch.randn(4, 16, 16)
    grad = torch.randn(300, 4, 16, 8)
    values = _with_gradients(lambda x: biased_attention(x, x, x, bias.to(x)), q, grad, checks.device)
    exact = _with_gradients(
        lambda x: (x @ x.mT * 8**-0.5 + bias.to(x)).softmax(-1) @ x, q.double(), grad.double(), "cpu"
    )
    _compare(checks, "1 attention with a bias", values, exact, 1e-4)
    q, grad = torch.randn(70_000, 8, 2, 2), torch.randn(70_000, 8, 2, 2)
    hidden = torch.zeros(70_000, 1, 2, 2)
    values = _with_gradients(lambda x: attend_in_launches(x, x, x, hidden.to(x)), q, grad, checks.device)
    plain = partial(_attention, bias=hidden.double(), scale=1.0)
    exact = _with_gradients(plain, q.double(), grad.double(), "cpu")
    _compare(checks, "1 attention of 70,000 items with heads of 2 channels", values, exact, 1e-4)


def learners(checks: Checks) -> None:
    """Section 2: logits and gradients of every learner against float32 on the CPU, then in lower precision."""
    for learner in checks.learners:
        for masking in checks.maskings:
            built = network(learner, masking, checks.backbone, checks.size)
            exact, gradient = step(built.cpu(), checks.size, "fp32")
            for precision in checks.precisions:
                logits, got = step(built.to(checks.device), checks.size, precision)
                name, strict = f"2 {learner} {masking} {precision}", precision == "fp32"
                checks.limit(f"{name} gradient", cosine(got, gradient), 0.9999 if strict else 0.98, least=True)
                if strict:
                    checks.limit(f"{name} logits", error(logits, exact), 1e-3)
                else:
                    agreement = float((logits.argmax(1) == exact.argmax(1)).float().mean())
                    checks.limit(f"{name} agreement", agreement, 0.97, least=True)


def goldens(checks: Checks) -> None:
    """Section 3: the reference outputs of the published networks, with TF32 off and on."""
    if "FSS_SHARED_GOLDEN" not in os.environ:
        print("FSS_SHARED_GOLDEN is not set: no reference outputs")
        return
    for path in golden_files():
        golden = read_golden(path)
        if golden["arch"] not in checks.learners or golden["shots"] > 1:
            continue
        names = {"learner": golden["arch"], **{name: golden[name] for name in ("masking", "backbone", "benchmark")}}
        segmenter = load_published(published_state(golden), **names).to(checks.device)
        inputs = [x.to(checks.device) for x in inputs_by_rule(golden["seed"], golden["shots"], golden["size"])]
        expected = torch.tensor(golden["logits_every16"])
        for precision in (each for each in checks.precisions if each != "bf16"):
            set_precision(precision, checks.device)
            with torch.no_grad():
                logits = segmenter(*inputs)[0, :, ::16, ::16].cpu()
            deviation = float((logits - expected).abs().max() / expected.abs().max())
            if precision == "fp32":
                checks.limit(f"3 {path.stem} fp32", deviation, 1e-4)
            else:
                checks.report(f"3 {path.stem} {precision}", deviation)
        set_precision("fp32", "cuda")


def rendering(checks: Checks) -> None:
    """Section 4: equal views on the device and on the CPU, and two equal trainings."""
    size = checks.size
    pictures, masks = zip(*(painted(number) for number in range(VIEWS)), strict=True)
    canvases = torch.from_numpy(np.stack([image_canvas(rgb, size) for rgb in pictures])).permute(0, 3, 1, 2)
    small = [mask_canvas(mask, size) for mask in masks]
    # Tones have 256 levels: without a warp, the levels of the CPU and of the device are the same.
    for name, config in {"geometry and colours": AugmentConfig(), "tones": replace(VAT_TONES, tones=0.5)}.items():
        views = torch.from_numpy(
            np.stack(
                [
                    draw_view(
                        config, mask, height=480, width=640, size=size, seed=0, epoch=0, item=str(n), role="query"
                    )
                    for n, mask in enumerate(small)
                ]
            )
        )
        images, targets = canvases.contiguous(), torch.from_numpy(np.stack(small))
        expected, expected_masks = render(images, targets, views, size)
        got, got_masks = render(images.to(checks.device), targets.to(checks.device), views, size)
        difference = (got.cpu() - expected).abs().flatten()
        checks.limit(
            f"4 {name}: 99.9 % of the pixels", float(difference.kthvalue(int(0.999 * len(difference)))[0]), 1e-4
        )
        checks.limit(f"4 {name}: masks", float((got_masks.cpu() != expected_masks).float().mean()), 1e-3)
    learner = checks.learners[0]
    finals = []
    for _ in range(2):
        built = network(learner, "feature", checks.backbone, size).to(checks.device)
        loop = TrainLoop(built, RandomStream(size, 2), OptimizerConfig(steps=checks.repeated), device=checks.device)
        list(loop.run())
        finals.append(torch.cat([parameter.detach().flatten() for parameter in loop.parameters]))
    checks.report(f"4 {learner} twice: largest difference of a weight", float((finals[0] - finals[1]).abs().max()))


def _with_gradients(
    function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    x = x.detach().to(device).requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y, x, grad.to(y))
    return y.detach().double().cpu(), gradient.double().cpu()


def _attention(x: Tensor, *, bias: Tensor, scale: float) -> Tensor:
    return (x @ x.mT * scale + bias).softmax(-1) @ x


def _compare(checks: Checks, name: str, values: tuple[Tensor, ...], exact: tuple[Tensor, ...], limit: float) -> None:
    checks.limit(name, max(error(v, e) for v, e in zip(values, exact, strict=True)), limit)
