"""Seconds and backbone passes of an evaluation, which encodes each image once instead of once per episode.

    python -m pipelines.ingest --collection fewshot --source.kind fss1000 --source.path FSS-1000-like-folder
    python -m tests.benchmarks.bench_evaluation --collection fewshot --weights mobilenet_v2.pth

Two segmenters with untrained heads, MaskSplit and HSNet with hybrid masking, are evaluated on plans of one and five
shots. Every row starts with an empty cache. Without a cache an episode of K shots takes K + 1 passes (MaskSplit) or
2 K + 1 (hybrid masking encodes every support a second time, masked); the table compares with K + 1 for both.
"""

import argparse
import time

import torch

from fss.collection import ClassIndex, Collection, ImageReader
from fss.episodes.episode_plan import make_plan
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.models import create_segmenter

SEGMENTERS = (("masksplit", "none"), ("hsnet", "hybrid"))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", required=True, help="a collection with the mask set truth")
    parser.add_argument("--classes", default="test", help="class split to draw from")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default=None, help="state dict of the backbone; random weights without it")
    parser.add_argument("--size", type=int, default=200, help="side in pixels of the network's input")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--cache-gb", type=float, default=1.0, help="size of the feature cache in GB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Evaluate and print a row after each plan."""
    options = parse()
    torch.set_num_threads(options.threads)
    collection = Collection.open(options.collection)
    truth = collection.mask_set("truth")
    index, reader = ClassIndex.build(truth), ImageReader(collection, truth)
    classes = collection.class_splits[options.classes]
    print("| segmenter | shots | plan | images | seconds | in the model | passes | episodes x (K + 1) | fewer |")
    print("|" + "---|" * 9)
    for learner, masking in SEGMENTERS:
        segmenter = create_segmenter(
            learner=learner,
            masking=masking,
            backbone=options.backbone,
            backbone_weights=options.weights,
            image_size=options.size,
        )
        for shots in options.shots:
            plan = make_plan(index, classes=classes, episodes=options.episodes, shots=shots, seed=0)
            method = SegmenterMethod(segmenter, device=options.device, cache_gb=options.cache_gb)
            start = time.monotonic()
            result = evaluate([method], plan, reader, size=options.size)
            seconds, passes = time.monotonic() - start, result.passes[method.name]
            naive = len(plan) * (shots + 1)
            cells: list[object] = [f"{learner}, {masking}", shots, plan.hash, len(plan.image_ids()), f"{seconds:.0f}"]
            cells += [f"{result.seconds[method.name]:.0f}", passes, naive, f"{naive / passes:.1f} x"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
