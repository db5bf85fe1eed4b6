"""Benchmark of refined outlines: boundary F-measure, IoU and time of predictions with and without the refinement.

    python -m tests.benchmarks.bench_refine --model runs/<name>/model --collection fewshot --episodes 200

One support per episode, objects of at least 400 pixels. Predictions are scored at the original size of the query
(``fss.evaluation.boundary``), and a difference is the mean over the episodes with twice its standard error. Times are
CPU seconds of one thread, taken in turns for every query.
"""

import argparse
import time

import cv2
import numpy as np
import torch

from fss import load_segmenter
from fss.collection import ClassIndex, Collection, ImageReader
from fss.core.arrays import IGNORE
from fss.episodes.episode_plan import make_plan, split_small_classes
from fss.evaluation.boundary import boundary_f
from fss.relabel.edge_refinement import refine_outlines


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--mask-set", default="truth")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    segmenter = load_segmenter(options.model, device="cpu")
    collection = Collection.open(options.collection)
    masks = collection.mask_set(options.mask_set)
    reader, index = ImageReader(collection, masks), ClassIndex.build(masks, min_pixels=400)
    classes, _ = split_small_classes(index, index, 2)
    plan = make_plan(index, classes=classes, episodes=options.episodes, shots=1, seed=options.seed)
    rows = []
    for episode in plan:
        support, shown = reader.read_binary(episode.support_ids[0], episode.class_id)
        query, truth = reader.read_binary(episode.query_id, episode.class_id)
        start = time.process_time()
        plain = segmenter.predict(support, shown == 1, query, refine=False).probability
        middle = time.process_time()
        refined = refine_outlines(plain, query)
        seconds = middle - start, time.process_time() - middle
        rows.append([*_scores(plain, truth), *_scores(refined, truth), *seconds])
    table = np.array(rows)
    print(f"{len(table)} episodes, plan {plan.hash}")
    for name, column in (("IoU", 0), ("boundary F", 1)):
        plain, refined = 100 * table[:, column], 100 * table[:, column + 2]
        error = 2 * (refined - plain).std() / len(table) ** 0.5
        difference = f"{(refined - plain).mean():+.1f} +- {error:.1f}"
        print(f"{name}: {plain.mean():.1f} plain, {refined.mean():.1f} refined ({difference})")
    print(
        f"CPU time: {1000 * table[:, 4].mean():.0f} ms for both encodings, {1000 * table[:, 5].mean():.0f} ms to refine"
    )


def _scores(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the IoU and the boundary F-measure of a prediction."""
    mask, valid = (probability > 0.5).astype(np.uint8), truth != IGNORE
    both, either = (mask & (truth == 1))[valid].sum(), (mask | (truth == 1))[valid].sum()
    return float(both / max(1, either)), boundary_f(mask, truth)


if __name__ == "__main__":
    main()
