"""Inference and training time of every learner, in units of one forward pass of torchvision's ResNet-50.

    python -m tests.benchmarks.bench_networks                     # all networks, on CPU or GPU
    python -m tests.benchmarks.bench_networks --only vat          # some networks
    python -m tests.benchmarks.bench_networks --threads 1 --clock cpu   # on a shared machine

The unit u is the forward pass of one image of the same size in float32, on the same device and in the default memory
format, in the same process. Rounds of all arms are interleaved, and medians are printed. *PyTorch* is the network as
its modules compute it, *default* the path that inference takes, and *bf16* the same with ``--precision bf16``;
*changed* is the share of its decisions that differ from those of the default; both are ``nan`` on a CPU without
bfloat16. A training has the same three arms. Each network runs in its own process, so that the peak memory is that of
this network.
"""

import argparse
import copy
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import torch
import torchvision
from torch.nn import functional as F

from fss.models import FewShotSegmenter, create_segmenter
from fss.models.config import Precision
from fss.models.precision import autocast, cpu_has_bfloat16
from fss.models.speed import prepare_inference, prepare_training

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
    "masksplit-mobilenet": ({"learner": "masksplit", "backbone": "mobilenet_v2"}, 192, 16, None, None),
    "density-mobilenet": ({"learner": "density", "backbone": "mobilenet_v2"}, 384, 1, None, None),
}


def episode(batch: int, side: int, device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    query, support = torch.randn(2, batch, 3, side, side, generator=generator)
    rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = ((rows / side - 0.55) ** 2 + (cols / side - 0.45) ** 2 < 0.3**2).float().expand(batch, 1, side, side)
    return query.to(device), support[:, None].to(device), mask.to(device)


def median_times(arms: Mapping[str, Callable[[], object]], rounds: int, clock: str, device: str) -> dict[str, float]:
    """Return the median seconds of each arm over interleaved rounds; a first round warms up."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, function in arms.items():
            start = now()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                times[name].append(now() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def training_arm(
    segmenter: FewShotSegmenter, precision: Precision | None, batch: tuple[torch.Tensor, ...], device: str
) -> Callable[[], object]:
    """Return a function that does a step; without a precision, with the backbone as PyTorch runs it."""
    segmenter = copy.deepcopy(segmenter).train()
    path: Precision = "fp32" if precision is None else prepare_training(segmenter, precision).autocast
    optimiser = torch.optim.Adam([p for p in segmenter.parameters() if p.requires_grad], 1e-4)
    target = batch[2][:, 0].long()

    def step() -> None:
        optimiser.zero_grad()
        with autocast(device, path):
            logits = segmenter(*batch)
        F.cross_entropy(logits.float(), target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def inference_arm(
    segmenter: FewShotSegmenter, precision: Precision, batch: tuple[torch.Tensor, ...], device: str
) -> tuple[Callable[[], torch.Tensor], str]:
    """Return a function that gives the logits by the default path, and the name of the path."""
    prepared = copy.deepcopy(segmenter).eval()
    path = prepare_inference(prepared, precision)

    def run() -> torch.Tensor:
        with torch.no_grad(), autocast(device, path.autocast):
            logits: torch.Tensor = prepared(*batch)
            return logits.float()

    return run, path.name


def run_case(name: str, options: argparse.Namespace) -> dict[str, object]:
    settings, side, batch, inference_u, training_u = CASES[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    segmenter = create_segmenter(**settings, image_size=side, frozen=True).to(device).eval()
    reference = torchvision.models.resnet50().to(device).eval()
    one = episode(1, side, device)
    default, path = inference_arm(segmenter, "fp32", one, device)
    arms = {
        "u": torch.no_grad()(lambda: reference(one[0])),
        "pytorch": torch.no_grad()(lambda: segmenter(*one)),
        "default": default,
    }
    has_bfloat16, changed = device == "cuda" or cpu_has_bfloat16(), math.nan
    if has_bfloat16:
        arms["bf16"], _ = inference_arm(segmenter, "bf16", one, device)
        changed = float((default().argmax(1) != arms["bf16"]().argmax(1)).float().mean())
    times = median_times(arms, options.repeats, options.clock, device)
    memory = [peak_memory(device)]
    if training_u or settings["learner"] != "density":
        episodes = episode(batch, side, device)
        paths: dict[str, Precision | None] = {"": None, "_default": "fp32"}
        if has_bfloat16:
            paths["_bf16"] = "bf16"
        steps = {f"training{arm}": training_arm(segmenter, path, episodes, device) for arm, path in paths.items()}
        measured = median_times(steps, options.repeats, options.clock, device)
        times |= {arm: seconds / batch for arm, seconds in measured.items()}
    memory.append(peak_memory(device))
    return {
        "u_ms": times["u"] * 1e3,
        **{f"{arm}_u": seconds / times["u"] for arm, seconds in times.items()},
        "path": path,
        "changed": changed,
        "published_inference_u": inference_u,
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
    parser.add_argument("--case", choices=CASES, help="run one case in this process and print it as JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options)))
        return
    columns = ["network", "u, ms", "published", "PyTorch", "default", "path", "bf16", "changed"]
    columns += ["training: published, PyTorch, default, bf16", "GiB"]
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in (name for name in CASES if options.only in name):
        command = [sys.executable, "-m", "tests.benchmarks.bench_networks", *sys.argv[1:], "--case", name]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        training, rounded = "", row.get("bf16_u", math.nan)
        if "training_u" in row:
            times = (row.get(f"training{arm}_u", math.nan) for arm in ("", "_default", "_bf16"))
            training = ", ".join([str(row["published_training_u"]), *(f"{each:.1f}" for each in times)])
        print(
            f"| {name} | {row['u_ms']:.0f} | {row['published_inference_u']} | {row['pytorch_u']:.2f} "
            f"| {row['default_u']:.2f} | {row['path']} | {rounded:.2f} | {row['changed']:.1e} | {training} "
            f"| {row['inference_gib']:.1f}, {row['training_gib']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
