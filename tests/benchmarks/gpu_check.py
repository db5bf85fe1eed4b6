"""Check the networks and the training step on a GPU, and measure their speed at published sizes.

    python -m tests.benchmarks.gpu_check                    # all sections, on CUDA
    python -m tests.benchmarks.gpu_check --only 1 2 6 --device cpu

It needs neither Ray nor MLflow nor data. Every check prints ``PASS|FAIL name value limit``, and the last line is a JSON
object. The exit code is 1 if a check failed.
"""

import argparse
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fss.core.system import gpu_problem
from fss.episodes.episode import RawEpisodes
from fss.models import FewShotSegmenter, create_segmenter
from fss.models.config import Precision
from fss.models.layers.attention import biased_attention
from fss.models.layers.dropout import EpisodeDropout2d
from fss.models.layers.norm import GroupNormReLU, group_norm
from fss.models.learners.asnet_layers import attend_in_launches
from fss.models.precision import autocast, set_precision
from fss.models.speed import speed_up
from fss.training.few_shot.config import OptimizerConfig
from fss.training.few_shot.loop import TrainingDivergedError, TrainLoop
from fss.training.losses import cross_entropy_sum

LEARNERS = ("masksplit", "hsnet", "asnet", "vat")
PUBLISHED = {
    "hsnet": ("resnet50", 400, 20),
    "asnet": ("resnet101", 400, 24),
    "vat": ("resnet50", 473, 16),
    "masksplit": ("resnet101_deepstem", 400, 16),
}
"""Backbone, image size and episodes per step."""
VIEW = (1.0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0)


@dataclass
class Checks:
    """The results so far."""

    device: torch.device
    size: int = 160
    backbone: str = "resnet50"
    learners: tuple[str, ...] = LEARNERS
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    table: list[dict[str, Any]] = field(default_factory=list)

    def limit(self, name: str, value: float, limit: float, *, least: bool = False) -> None:
        """Record a value that may be at most, or must be at least, a limit."""
        passed = value >= limit if least else value <= limit
        self.results[name] = {"value": value, "limit": limit, "passed": passed}
        print(f"{'PASS' if passed else 'FAIL'} {name} {value:.3g} {'>=' if least else '<='} {limit:g}", flush=True)

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return not all(result["passed"] for result in self.results.values())


@dataclass
class RandomStream:
    """Random episodes of one step, the same in every step."""

    image_size: int
    count: int
    steps_per_epoch: int = 1000

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield the same batch again and again."""
        rng, side = torch.Generator().manual_seed(0), self.image_size
        pixels = torch.randint(0, 256, (self.count, 2, 3, side, side), generator=rng, dtype=torch.uint8)
        masks = torch.zeros(self.count, 2, side, side, dtype=torch.uint8)
        masks[..., : side // 2] = 1
        views = torch.tensor(VIEW).repeat(self.count, 2, 1)
        raw = RawEpisodes(
            query=pixels[:, 0].contiguous(),
            query_masks=masks[:, 0].contiguous(),
            query_views=views[:, 0],
            support=pixels[:, 1:].contiguous(),
            support_masks=masks[:, 1:].contiguous(),
            support_views=views[:, 1:],
            ids=tuple(map(str, range(self.count))),
        )
        raw = raw.pin_memory() if torch.cuda.is_available() else raw
        for _ in range(start, self.steps_per_epoch):
            yield raw


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
        for masking in ("none", "feature", "hybrid"):
            network = _network(learner, masking, checks.backbone, checks.size)
            exact, gradient = _step(network.cpu(), checks.size, "fp32")
            for precision in ("fp32", "tf32", "bf16"):
                logits, got = _step(network.to(checks.device), checks.size, precision)
                name, strict = f"2 {learner} {masking} {precision}", precision == "fp32"
                checks.limit(f"{name} gradient", _cosine(got, gradient), 0.9999 if strict else 0.98, least=True)
                if strict:
                    checks.limit(f"{name} logits", _error(logits, exact), 1e-3)
                else:
                    agreement = float((logits.argmax(1) == exact.argmax(1)).float().mean())
                    checks.limit(f"{name} agreement", agreement, 0.97, least=True)


def training(checks: Checks) -> None:
    """Section 5: a training that is saved and resumed equals one that is not; NaN stops it."""
    config = OptimizerConfig(steps=6, learning_rate=1e-3)
    learner = checks.learners[0]
    loops = [_loop(checks, learner, config) for _ in range(2)]
    losses = [report.loss for report in loops[0].run()]
    resumed = [report.loss for _, report in zip(range(3), loops[1].run(), strict=False)]
    third = _loop(checks, learner, config)
    third.load_state_dict(loops[1].state_dict())
    resumed += [report.loss for report in third.run()]
    pairs = zip(losses, resumed, strict=True)
    checks.limit(f"5 {learner} resumed", max(abs(a - b) / abs(a) for a, b in pairs), 1e-3)
    with torch.no_grad():
        third.parameters[0].fill_(float("nan"))
    third._start_at(0)
    try:
        next(third.run())
        checks.limit(f"5 {learner} stops at NaN", 0, 1, least=True)
    except TrainingDivergedError:
        checks.limit(f"5 {learner} stops at NaN", 1, 1, least=True)


def workers(checks: Checks) -> None:
    """Section 6: DistributedDataParallel in a group of one process, two passes a step, for every learner."""
    with _group(checks.device):
        config = OptimizerConfig(steps=3, learning_rate=1e-3, accumulate=2)
        for learner in checks.learners:
            losses = [report.loss for report in _loop(checks, learner, config, parallel=True).run()]
            alone = [report.loss for report in _loop(checks, learner, config).run()]
            difference = max(abs(a - b) / abs(b) for a, b in zip(losses, alone, strict=True))
            checks.limit(f"6 {learner} in a group", difference, 1e-3)
        total = torch.tensor([1 << 40], device=checks.device)
        dist.all_reduce(total)
        checks.limit("6 sum of int64", float(abs(int(total) - (1 << 40))), 0)


def speed(checks: Checks) -> None:
    """Section 7: episodes per second and peak memory of a training step at published sizes."""
    for learner, (backbone, size, count) in PUBLISHED.items():
        for precision in ("fp32", "tf32", "bf16"):
            set_precision(precision)
            network = _network(learner, "none" if learner == "masksplit" else "feature", backbone, size)
            config = OptimizerConfig(steps=11, precision=precision)
            loop = TrainLoop(network.to(checks.device), RandomStream(size, count), config, device=checks.device)
            torch.cuda.reset_peak_memory_stats()
            seconds = [report.compute_s for report in loop.run()][3:]
            row = {
                "learner": learner,
                "precision": precision,
                "episodes/s": round(count * len(seconds) / sum(seconds), 1),
                "ms/step": round(1000 * sum(seconds) / len(seconds)),
                "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1),
            }
            checks.table.append(row)
            print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            del loop, network
            torch.cuda.empty_cache()
    set_precision("fp32")


def compilation(checks: Checks) -> None:
    """Section 8: the compiled step against the eager one."""
    for learner in ("hsnet", "masksplit"):
        network = _network(learner, "feature", checks.backbone, checks.size).to(checks.device)
        _, eager = _step(network, checks.size, "fp32")
        start = time.perf_counter()
        _, compiled = _step(speed_up(network, fold_batchnorm=False, compile=True), checks.size, "fp32")
        print(f"{learner}: compiled in {time.perf_counter() - start:.0f} s")
        checks.limit(f"8 {learner} compiled gradient", _cosine(compiled, eager), 0.999, least=True)


SECTIONS: dict[int, Callable[[Checks], None]] = {
    0: environment,
    1: operators,
    2: learners,
    5: training,
    6: workers,
    7: speed,
    8: compilation,
}
ON_CUDA = {7}
"""Sections that need CUDA."""


def run(checks: Checks, only: list[int]) -> Checks:
    """Run some sections; an error in one is a failed check and does not hide the others."""
    set_precision("fp32")
    torch.manual_seed(0)
    for number in only:
        if number in ON_CUDA and checks.device.type != "cuda":
            continue
        start = time.perf_counter()
        try:
            SECTIONS[number](checks)
        except Exception:
            traceback.print_exc()
            checks.limit(f"{number} ends without an error", 1, 0)
        print(f"section {number}: {time.perf_counter() - start:.0f} s", flush=True)
    return checks


def _network(learner: str, masking: str, backbone: str, size: int) -> FewShotSegmenter:
    network = create_segmenter(learner=learner, masking=masking, backbone=backbone, frozen=True, image_size=size)
    return network.train()


def _loop(checks: Checks, learner: str, config: OptimizerConfig, *, parallel: bool = False) -> TrainLoop:
    network = _network(learner, "feature", checks.backbone, checks.size).to(checks.device)
    model = DistributedDataParallel(network) if parallel else network
    return TrainLoop(model, RandomStream(checks.size, 2), config, device=checks.device)


def _step(network: FewShotSegmenter, size: int, precision: Precision) -> tuple[Tensor, Tensor]:
    """Return the logits and all gradients of a step without dropout, float32 on the CPU."""
    device = next(network.parameters()).device
    for module in network.modules():
        if isinstance(module, EpisodeDropout2d):
            module.eval()
    rng = torch.Generator().manual_seed(1)
    query, supports = torch.randn(2, 3, size, size, generator=rng), torch.randn(2, 1, 3, size, size, generator=rng)
    masks = torch.zeros(2, 1, size, size)
    masks[..., : size // 2] = 1
    set_precision(precision)
    with autocast(device, precision):
        logits = network(query.to(device), supports.to(device), masks.to(device))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(cross_entropy_sum(logits, masks[:, 0].long().to(device)), trained)
    set_precision("fp32")
    return logits.detach().float().cpu(), torch.cat([gradient.flatten().cpu() for gradient in gradients])


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
    checks.limit(name, max(_error(v, e) for v, e in zip(values, exact, strict=True)), limit)


def _error(value: Tensor, exact: Tensor) -> float:
    return float((value - exact).norm() / exact.norm())


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0))


@contextmanager
def _group(device: torch.device) -> Iterator[None]:
    """Form a process group of this process alone, on a free port of the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", choices=[*SECTIONS], default=[*SECTIONS])
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    checks = run(Checks(torch.device(options.device)), options.only)
    print(json.dumps({"failed": checks.failed, "results": checks.results, "table": checks.table}))
    return int(checks.failed)


if __name__ == "__main__":
    sys.exit(main())
