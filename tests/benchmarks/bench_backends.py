"""Time of a query by PyTorch, ONNX Runtime and OpenVINO, in units of one forward pass of torchvision's ResNet-50.

    python -m tests.benchmarks.bench_backends --only hsnet-hybrid masksplit-mobilenet --threads 1 --clock cpu

A query is encoded and compared with one encoded support. The unit is that of ``bench_networks.py``. Rounds of all arms
are interleaved, and medians are printed, with the share of the decisions that differ from PyTorch's on noise with a
disc as mask, with random weights.
"""

import argparse
import copy
import functools
import sys
from collections.abc import Callable

import torch
import torchvision

from fss.inference.predictor import Predictor
from fss.models import create_segmenter
from fss.models.config import Backend, Precision
from tests.benchmarks.bench_networks import CASES, episode, median_times

ARMS: list[tuple[Backend, Precision]] = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
]


def answer(
    predictor: Predictor, query: torch.Tensor, supports: torch.Tensor, masks: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """Return a function that answers the query."""
    support, network = predictor.segmenter.encode_support(supports[0], masks[0]), predictor.network
    return lambda: network.decode(network.encode_query(query), support, masks, query.shape[-2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CASES, default=[*CASES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread of a busy machine"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| network | back end | units | changed |\n|---|---|---|---|")
    for name in options.only:
        settings, side = CASES[name][:2]
        segmenter = create_segmenter(**settings, image_size=side).eval()
        query, supports, masks = episode(1, side, "cpu")
        unit = torchvision.models.resnet50().eval()
        runs: dict[str, Callable[[], torch.Tensor]] = {"unit": functools.partial(unit, query)}
        for backend, precision in ARMS:
            try:
                predictor = Predictor(copy.deepcopy(segmenter), backend=backend, precision=precision)
                predictor.prepare(1)
            except ValueError as error:
                print(f"{name}, {backend} {precision}: {error}", file=sys.stderr)
                continue
            runs[predictor.path.name] = answer(predictor, query, supports, masks)
        answers = {arm: run() for arm, run in runs.items() if arm != "unit"}
        seconds = median_times(runs, options.rounds, options.clock, "cpu")
        for arm, logits in answers.items():
            changed = float((logits.argmax(1) != answers["oneDNN"].argmax(1)).float().mean())
            print(f"| {name} | {arm} | {seconds[arm] / seconds['unit']:.2f} | {changed:.0e} |", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
