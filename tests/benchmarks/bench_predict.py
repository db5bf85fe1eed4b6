"""Photographs per second from JPEG to PNG, by the backbone's path and the number of photographs at a time.

    python -m tests.benchmarks.bench_predict --pictures PHOTOGRAPHS --weights mobilenet_v2.pth --threads 1

The example is the first photograph with a disc as its mask; the others are segmented. Arms take turns in every round,
and medians are printed. *PyTorch* runs the backbone as it is trained, and *oneDNN* is the default. *To oneDNN* is the
speed with one photograph at a time as a multiple of the default's, the median over the rounds.
"""

import argparse
import copy
import io
import operator
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fss.inference.predictor import Predictor
from fss.models import FewShotSegmenter, create_segmenter
from fss.models.config import Backend, Precision

BATCHES = (1, 8, 32)
NETWORKS: dict[str, dict[str, Any]] = {
    "density, 384 px": {"learner": "density", "image_size": 384},
    "MaskSplit, 192 px": {"learner": "masksplit", "image_size": 192},
    "MaskSplit of width 64, 192 px": {"learner": "masksplit", "image_size": 192, "width": 64},
    **{
        f"joined, width {width}, 384 px": {"density_prior": True, "image_size": 384, "width": width}
        for width in (128, 64, 32)
    },
}

PRECISIONS: dict[Backend, tuple[Precision, ...]] = {
    "torch": ("bf16",),
    "onnxruntime": ("fp32",),
    "openvino": ("fp32", "bf16"),
}


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(y**2 + x**2 < 0.3, np.uint8)


def run(predictor: Predictor, files: list[Path], folder: Path, batch: int, *, refine: bool) -> Callable[[], None]:
    """Return a function that segments all files but the first and writes the masks."""
    example = np.asarray(Image.open(files[0]).convert("RGB"))
    examples = predictor.examples(example, disc(*example.shape[:2]))

    def segment() -> None:
        pictures = (io.BytesIO(file.read_bytes()) for file in files[1:])
        images = (Image.open(picture) for picture in pictures)
        predictions = examples.predict_many(images, batch_size=batch, refine=refine)
        for file, prediction in zip(files[1:], predictions, strict=True):
            Image.fromarray(prediction.mask * 255).save(folder / f"{file.stem}.png")

    return segment


def arms(network: FewShotSegmenter, backends: list[Backend]) -> dict[tuple[str, bool], Predictor]:
    """Return the predictors to compare, by path and whether outlines are refined."""
    fused, plain = Predictor(copy.deepcopy(network)), Predictor(copy.deepcopy(network))
    plain.segmenter.backbone = network.backbone
    made = {("PyTorch", True): plain, (fused.path.name, True): fused, (fused.path.name, False): fused}
    for backend in backends:
        for precision in PRECISIONS[backend]:
            try:
                predictor = Predictor(copy.deepcopy(network), backend=backend, precision=precision)
                predictor.prepare(1)
            except ValueError as error:
                print(f"{backend} {precision}: {error}", file=sys.stderr)
            else:
                made[predictor.path.name, True] = predictor
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2's weights")
    parser.add_argument("--student", type=Path, help="student.safetensors, the saliency prior of the joined networks")
    parser.add_argument("--count", type=int, default=33, help="photographs, with the example")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread of a busy machine"
    )
    parser.add_argument("--backends", nargs="*", choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=[*NETWORKS])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    now = time.process_time if options.clock == "cpu" else time.perf_counter
    files = sorted(options.pictures.rglob("*.jpg"))[: options.count]
    print("| network | path | refined | " + " | ".join(f"{batch} at a time" for batch in BATCHES) + " | to oneDNN |")
    print("|---|---|---|" + "---|" * (len(BATCHES) + 1))
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            settings = {"backbone": "mobilenet_v2", "backbone_weights": options.weights, **NETWORKS[name]}
            if options.student and name.startswith("joined"):
                settings["saliency_prior"] = options.student
            network = create_segmenter(**settings)
            made = arms(network.eval(), options.backends)
            jobs = {
                (*arm, batch): run(predictor, files, Path(folder), batch, refine=arm[1])
                for arm, predictor in made.items()
                for batch in BATCHES
            }
            seconds: dict[tuple[str, bool, int], list[float]] = {key: [] for key in jobs}
            for number in range(options.rounds + 1):
                for key, job in jobs.items():
                    start = now()
                    job()
                    if number:
                        seconds[key].append(now() - start)
            for path, refine in made:
                speeds = [(len(files) - 1) / statistics.median(seconds[path, refine, batch]) for batch in BATCHES]
                default = seconds["oneDNN", True, 1]
                ratio = statistics.median(map(operator.truediv, default, seconds[path, refine, 1]))
                cells = " | ".join(f"{speed:.1f}" for speed in speeds)
                print(f"| {name} | {path} | {'yes' if refine else 'no'} | {cells} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
