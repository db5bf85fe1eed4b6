"""Sections 5, 6 and 8: resuming a training, several workers, and compilation."""

import io
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fss.models.speed import prepare_training
from fss.training.few_shot.config import OptimizerConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.loop import TrainingDivergedError
from tests.benchmarks.gpu.checks import Checks, cosine, count_waits, network, step
from tests.benchmarks.gpu.data import RandomStream


def training(checks: Checks) -> None:
    """Section 5: a training that is saved and resumed on the CPU equals one that is not; NaN stops it."""
    config = OptimizerConfig(steps=4, learning_rate=1e-3)
    learner = checks.learners[0]
    loops = [_loop(checks, learner, config) for _ in range(2)]
    losses = [report.loss for report in loops[0].run()]
    resumed = [report.loss for _, report in zip(range(2), loops[1].run(), strict=False)]
    saved = io.BytesIO()
    torch.save(loops[1].state_dict(), saved)
    saved.seek(0)
    third = _loop(checks, learner, config)
    third.load_state_dict(torch.load(saved, map_location="cpu", weights_only=True))
    resumed += [report.loss for report in third.run()]
    pairs = zip(losses, resumed, strict=True)
    checks.limit(f"5 {learner} resumed", max(abs(a - b) / abs(a) for a, b in pairs), 1e-3)
    steps = _loop(checks, learner, config).run()
    next(steps)
    waits = count_waits(checks.device, lambda: next(steps))
    checks.limit(f"5 {learner}: the host waits in a step", waits, 2)
    broken = _loop(checks, learner, config)
    with torch.no_grad():
        broken.parameters[0].fill_(float("nan"))
    try:
        next(broken.run())
        checks.limit(f"5 {learner} stops at NaN", 0, 1, least=True)
    except TrainingDivergedError:
        checks.limit(f"5 {learner} stops at NaN", 1, 1, least=True)


def workers(checks: Checks) -> None:
    """Section 6: DistributedDataParallel in a group of one process, two passes a step, for every learner."""
    with _group(checks.device):
        config = OptimizerConfig(steps=2, learning_rate=1e-3, accumulate=2)
        for learner in checks.learners:
            losses = [report.loss for report in _loop(checks, learner, config, parallel=True).run()]
            alone = [report.loss for report in _loop(checks, learner, config).run()]
            difference = max(abs(a - b) / abs(b) for a, b in zip(losses, alone, strict=True))
            checks.limit(f"6 {learner} in a group", difference, 1e-3)
        total = torch.tensor([1 << 40], device=checks.device)
        dist.all_reduce(total)
        checks.limit("6 sum of int64", float(abs(int(total) - (1 << 40))), 0)


def compilation(checks: Checks) -> None:
    """Section 8: the compiled step against the eager one."""
    for learner in ("hsnet", "masksplit"):
        built = network(learner, "feature", checks.backbone, checks.size).to(checks.device)
        _, eager = step(built, checks.size, "fp32")
        start = time.perf_counter()
        prepare_training(built, compile=True)
        _, compiled = step(built, checks.size, "fp32")
        print(f"{learner}: compiled in {time.perf_counter() - start:.0f} s")
        checks.limit(f"8 {learner} compiled gradient", cosine(compiled, eager), 0.999, least=True)


def _loop(checks: Checks, learner: str, config: OptimizerConfig, *, parallel: bool = False) -> TrainLoop:
    built = network(learner, "feature", checks.backbone, checks.size).to(checks.device)
    model = DistributedDataParallel(built) if parallel else built
    return TrainLoop(model, RandomStream(checks.size, 2), config, device=checks.device)


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
