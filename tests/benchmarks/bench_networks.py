"""Inference and training time of every learner, in units of one forward pass of torchvision's ResNet-50.

    python tests/benchmarks/bench_networks.py                     # all networks, on CPU or GPU
    python tests/benchmarks/bench_networks.py --only vat --fast   # some networks, with the fast paths
    python tests/benchmarks/bench_networks.py --threads 1 --clock cpu   # on a shared machine

The unit u is the forward pass of one image of the same size, in the same precision, on the same device and in the
default memory format, measured in the same process before and after the network. Each network runs in its own process,
so that the peak memory is that of this network.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torchvision
from torch.nn import functional as F

from fss.models import FewShotSegmenter, create_segmenter
from fss.models.speed import speed_up

# name: (settings, image side, training batch, published inference u, published training u)
CASES = {
    "hsnet-feature": ({"learner": "hsnet", "masking": "feature", "backbone": "resnet50"}, 400, 2, 5.2, 8.8),
    "hsnet-hybrid": ({"learner": "hsnet", "masking": "hybrid", "backbone": "resnet50"}, 400, 2, 6.4, 8.7),
    "asnet-none": ({"learner": "asnet", "masking": "none", "backbone": "resnet50"}, 400, 2, 5.1, 11.3),
    "asnet-hybrid": ({"learner": "asnet", "masking": "hybrid", "backbone": "resnet50"}, 400, 2, 5.6, 10.6),
    "vat-feature": ({"learner": "vat", "masking": "feature", "backbone": "resnet50"}, 473, 1, 23.5, None),
    "vat-hybrid": ({"learner": "vat", "masking": "hybrid", "backbone": "resnet50"}, 473, 1, 29.3, None),
    "masksplit-r50": ({"learner": "masksplit", "backbone": "resnet50_deepstem"}, 400, 4, 10.3, 14.3),
    "masksplit-r101": ({"learner": "masksplit", "backbone": "resnet101_deepstem"}, 400, 4, 15.0, 20.9),
}


def episode(batch: int, side: int, device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    query, support = torch.randn(2, batch, 3, side, side, generator=generator)
    rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = ((rows / side - 0.55) ** 2 + (cols / side - 0.45) ** 2 < 0.3**2).float().expand(batch, 1, side, side)
    return query.to(device), support[:, None].to(device), mask.to(device)


def best_time(function: Callable[[], object], repeats: int, clock: str, device: str) -> float:
    now = time.process_time if clock == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(repeats + 1):  # the first run warms up
        start = now()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, now() - start)
    return best


def training_step(segmenter: FewShotSegmenter, batch: tuple[torch.Tensor, ...]) -> Callable[[], object]:
    segmenter.train()
    optimiser = torch.optim.Adam([p for p in segmenter.parameters() if p.requires_grad], 1e-4)
    target = batch[2][:, 0].long()

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(segmenter(*batch).float(), target).backward()
        optimiser.step()

    return step


def run_case(name: str, options: argparse.Namespace) -> dict[str, object]:
    settings, side, batch, inference_u, training_u = CASES[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    segmenter = create_segmenter(**settings, image_size=side, frozen=True).to(device).eval()
    if options.fast:
        speed_up(segmenter)
    reference = torchvision.models.resnet50().to(device).eval()
    one = episode(1, side, device)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[options.dtype]

    def measure(function: Callable[[], object], grad: bool) -> float:
        with torch.set_grad_enabled(grad), torch.autocast(device, dtype, enabled=dtype != torch.float32):
            return best_time(function, options.repeats, options.clock, device)

    first = measure(lambda: reference(one[0]), False)
    inference = measure(lambda: segmenter(*one), False)
    memory = [peak_memory(device)]
    second = measure(lambda: reference(one[0]), False)
    training = measure(training_step(segmenter, episode(batch, side, device)), True) / batch
    memory.append(peak_memory(device))
    u = min(first, second, measure(lambda: reference(one[0]), False))
    return {
        "name": name,
        "u_ms": u * 1e3,
        "inference_u": inference / u,
        "published_inference_u": inference_u,
        "training_u": training / u,
        "published_training_u": training_u,
        "inference_gib": memory[0],
        "training_gib": memory[1],
        "batch": batch,
    }


def peak_memory(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names to run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--fast", action="store_true", help="fold BatchNorm into the backbone's convolutions")
    parser.add_argument("--case", choices=CASES, help="run one case in this process and print it as JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options)))
        return
    print("network          u ms   inference (published)   training per sample (published)   peak GiB inf, train (B)")
    for name in (name for name in CASES if options.only in name):
        command = [sys.executable, __file__, *sys.argv[1:], "--case", name]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{name:15} {row['u_ms']:6.0f} {row['inference_u']:7.1f} u ({row['published_inference_u']} u)"
            f" {row['training_u']:17.1f} u ({row['published_training_u']} u)"
            f" {row['inference_gib']:20.2f}, {row['training_gib']:.2f} ({row['batch']})",
            flush=True,
        )


if __name__ == "__main__":
    main()
