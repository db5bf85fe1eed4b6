"""What the sections share: settings, results, networks, one step, and measurements."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fss.models import FewShotSegmenter, create_segmenter
from fss.models.config import Precision
from fss.models.layers.dropout import EpisodeDropout2d
from fss.models.precision import autocast, require_precision, set_precision
from fss.training.losses import cross_entropy_sum

LEARNERS = ("masksplit", "hsnet", "asnet", "vat")
T = TypeVar("T")


class Published(NamedTuple):
    """A training at its published size."""

    learner: str
    backbone: str
    size: int
    """Side of the images, in pixels."""
    batch: int
    """Episodes per step."""


PUBLISHED = (
    Published("hsnet", "resnet50", 400, 20),
    Published("asnet", "resnet101", 400, 24),
    Published("vat", "resnet50", 473, 8),
    Published("vat", "resnet50", 473, 16),
    Published("masksplit", "resnet101_deepstem", 400, 16),
)
TINY_BACKBONE = "timm:test_resnet.r160_in1k"


@dataclass
class Checks:
    """Settings of the check, and the results so far."""

    device: torch.device
    size: int = 160
    """Side of the images, in pixels, where the size is not the published one."""
    backbone: str = "resnet50"
    learners: tuple[str, ...] = LEARNERS
    maskings: tuple[str, ...] = ("none", "feature", "hybrid")
    published: tuple[Published, ...] = PUBLISHED
    steps: int = 8
    """Measured steps of a training, after three others."""
    repeated: int = 5
    """Steps of a training that runs twice."""
    photographs: int = 500
    """Generated photographs."""
    decoders: tuple[int, ...] = (2, 8, 16)
    """Numbers of decoding threads or processes."""
    episodes: int = 200
    """Episodes of an evaluation."""
    vit: str = "vit_small_patch16_224.dino"
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    table: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def tiny(cls, device: torch.device, **settings: Any) -> "Checks":
        """Return settings for a CPU: small networks, small pictures and few steps."""
        published = tuple(Published(each, TINY_BACKBONE, 80, 4) for each in ("hsnet", "masksplit"))
        small: dict[str, Any] = {
            "size": 80,
            "backbone": TINY_BACKBONE,
            "published": published,
            "steps": 1,
            "repeated": 2,
            "photographs": 60,
            "decoders": (2,),
            "episodes": 6,
            "vit": "test_vit.r160_in1k",
        }
        return cls(device, **small | settings)

    def limit(self, name: str, value: float, limit: float, *, least: bool = False) -> None:
        """Record a value that may be at most, or must be at least, a limit."""
        passed = value >= limit if least else value <= limit
        self.results[name] = {"value": value, "limit": limit, "passed": passed}
        print(f"{'PASS' if passed else 'FAIL'} {name} {value:.3g} {'>=' if least else '<='} {limit:g}", flush=True)

    def report(self, name: str, value: float) -> None:
        """Record a value without a limit."""
        self.results[name] = {"value": value, "limit": None, "passed": True}
        print(f"INFO {name} {value:.3g}", flush=True)

    def row(self, **cells: Any) -> None:
        """Add a row to the table of measurements."""
        self.table.append(cells)
        print(" ".join(f"{name} {value}" for name, value in cells.items()), flush=True)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that the device has."""
        return tuple(each for each in get_args(Precision) if _has(self.device, each))

    @property
    def fastest(self) -> Precision:
        """The precision of the measurements of speed: bf16, or float32 where the device lacks it."""
        return "bf16" if "bf16" in self.precisions else "fp32"

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return not all(result["passed"] for result in self.results.values())


def _has(device: torch.device, precision: Precision) -> bool:
    try:
        require_precision(precision, device)
    except ValueError:
        return False
    return True


def network(learner: str, masking: str, backbone: str, size: int) -> FewShotSegmenter:
    """Build a network with a frozen backbone, in training mode."""
    built = create_segmenter(learner=learner, masking=masking, backbone=backbone, frozen=True, image_size=size)
    return built.train()


def step(segmenter: FewShotSegmenter, size: int, precision: Precision) -> tuple[Tensor, Tensor]:
    """Return the logits and all gradients of a step without dropout, float32 on the CPU."""
    device = next(segmenter.parameters()).device
    for module in segmenter.modules():
        if isinstance(module, EpisodeDropout2d):
            module.eval()
    rng = torch.Generator().manual_seed(1)
    query, supports = torch.randn(2, 3, size, size, generator=rng), torch.randn(2, 1, 3, size, size, generator=rng)
    masks = torch.zeros(2, 1, size, size)
    masks[..., : size // 2] = 1
    set_precision(precision, device)
    with autocast(device, precision):
        logits = segmenter(query.to(device), supports.to(device), masks.to(device))
    trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(cross_entropy_sum(logits, masks[:, 0].long().to(device)), trained)
    set_precision("fp32", device)
    return logits.detach().float().cpu(), torch.cat([gradient.flatten().cpu() for gradient in gradients])


def error(value: Tensor, exact: Tensor) -> float:
    """Return the relative error in the Euclidean norm."""
    return float((value - exact).norm() / exact.norm())


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two vectors."""
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0))


def seconds_of(device: torch.device, work: Callable[[], object], repeats: int = 5) -> float:
    """Return the mean seconds of a piece of work on a device, after one call that is not measured."""
    work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def kernel_seconds(device: torch.device, work: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a piece of work, and the seconds that kernels and copies took on the GPU (NaN on a CPU)."""
    if device.type != "cuda":
        return work(), float("nan")
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        result = work()
        _wait(device)
    return result, sum(each.self_device_time_total for each in profiler.key_averages()) / 1e6


def count_waits(device: torch.device, work: Callable[[], object]) -> int:
    """Return how often the host waits for the GPU in a piece of work; 0 on a CPU."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
