"""Ablation of MaskSplit's training: the split of the mask, its ratio and the augmentation.

    python -m pipelines.ingest --collection C ... && python -m pipelines.pseudomask --collection C
    python -m tests.benchmarks.bench_ablation --collection C --labelled L --weights mobilenet_v2.pth

``C`` holds photographs with pseudo-masks and an acceptance, ``L`` labelled images with a class split "test". Training
uses no labels; models are evaluated on few-shot episodes of the test classes. The main row is trained with several
seeds, every other row with one. Results are saved after each training, and a stopped benchmark resumes.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from fss.collection import ClassIndex, Collection, ImageReader
from fss.episodes.config import OFF, AugmentConfig, SplitConfig
from fss.episodes.episode_plan import make_plan
from fss.evaluation.baselines import AllForeground, UntrainedPrototype
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import Method, SegmenterMethod
from fss.evaluation.report import result_rows
from fss.models import FewShotSegmenter, create_segmenter
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.mask_split_stream import MaskSplitStream


@dataclass(frozen=True, kw_only=True)
class Options:
    """Data, network and length of the trainings."""

    collection: str
    """Photographs with pseudo-masks."""
    labelled: str
    """Labelled images with the class split "test"."""
    output: Path = Path("runs/ablation")
    """Folder of the results."""
    mask_set: str = "saliency"
    acceptance: str = "default"
    backbone: str = "mobilenet_v2"
    weights: str | None = None
    size: int = 192
    """Side in pixels of the network's input."""
    width: int = 128
    """Channels of the network's head."""
    steps: int = 320
    """Training steps of 16 episodes."""
    learning_rate: float = 1e-3
    seeds: int = 3
    """Number of trainings of the main row, each with another seed."""
    episodes: int = 400
    """Test episodes of a plan."""
    threads: int = 1


MAIN = SplitConfig(), AugmentConfig()
VARIANTS: dict[str, tuple[SplitConfig, AugmentConfig]] = {
    "main (corrected cut, at the median)": MAIN,
    "cut as released": (SplitConfig(as_released=True), AugmentConfig()),
    "cut anywhere within (.3, .7)": (SplitConfig(ratio=(0.3, 0.7)), AugmentConfig()),
    "no augmentation": (SplitConfig(), OFF),
}


def main(options: tyro.conf.OmitArgPrefixes[Options]) -> None:
    """Train and evaluate every row."""
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for number, (name, settings) in enumerate(VARIANTS.items()):
            if number and seed:
                continue
            path = options.output / f"{number}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(options, *settings, seed=seed)))
            result = json.loads(path.read_text())
            text = "; ".join(f"{key} {value}" for key, value in result["text"].items())
            print(f"{name}, seed {seed}: {result['seconds']:.0f} s, loss {result['loss']:.3f}; {text}", flush=True)
    miou = [json.loads((options.output / f"0-{seed}.json").read_text())["miou"] for seed in range(options.seeds)]
    for shots in miou[0]:
        values = [100 * by_shots[shots] for by_shots in miou]
        print(f"main, {shots} shots: {np.mean(values):.1f}, from {min(values):.1f} to {max(values):.1f}")


def measure(options: Options, split: SplitConfig, augment: AugmentConfig, *, seed: int) -> dict[str, object]:
    """Train once and evaluate on the test classes."""
    collection = Collection.open(options.collection)
    masks = collection.mask_set(options.mask_set)
    stream = MaskSplitStream(
        collection,
        masks,
        image_size=options.size,
        stream=StreamConfig(seed=seed, decode_threads=1),
        split=split,
        augment=augment,
        accepted=masks.read_acceptance(options.acceptance).accepted,
    )
    segmenter = create_segmenter(
        backbone=options.backbone,
        backbone_weights=options.weights,
        image_size=options.size,
        width=options.width,
        seed=seed,
    )
    config = OptimizerConfig(steps=options.steps, learning_rate=options.learning_rate, ema=0.99)
    loop, start = TrainLoop(segmenter, stream, config), time.perf_counter()
    losses = [report.loss for report in loop.run()]
    seconds = time.perf_counter() - start
    with loop.ema.applied(segmenter):
        table = evaluate_model(options, segmenter, baselines=seed == 0 and (split, augment) == MAIN)
    text = {f"{row['shots']} shot(s) {row['method']}": interval(row) for row in table}
    miou = {str(row["shots"]): row["miou"] for row in table if row["method"] == "model"}
    return {"seconds": seconds, "loss": float(np.mean(losses[-20:])), "text": text, "miou": miou, "table": table}


def evaluate_model(options: Options, segmenter: FewShotSegmenter, *, baselines: bool) -> list[dict[str, object]]:
    """Return the result rows of 1 and 5 shots on the test classes."""
    collection = Collection.open(options.labelled)
    truth = collection.mask_set("truth")
    index, reader = ClassIndex.build(truth), ImageReader(collection, truth)
    results = []
    for shots in (1, 5):
        plan = make_plan(index, classes=collection.class_splits["test"], episodes=options.episodes, shots=shots, seed=0)
        method = SegmenterMethod(segmenter, cache_gb=1)
        others: list[Method] = [AllForeground(), UntrainedPrototype(segmenter.backbone, cache_gb=1)]
        results.append(evaluate([method, *(others if baselines else [])], plan, reader, size=options.size))
    return result_rows(results, method.name)


def interval(row: dict[str, object]) -> str:
    """Return the mIoU and its interval in percent."""
    low, middle, high = (100 * float(row[key]) for key in ("miou_low", "miou", "miou_high"))  # type: ignore[arg-type]
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main(tyro.cli(Options))
