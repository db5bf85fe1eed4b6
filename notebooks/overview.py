"""Draws images/overview.jpg, the picture of the README, from the output of the main job on the painted sample.

The example and the photographs of the picture are written into images/painted/, for the README's first command.

    make run                                       # writes runs/masksplit
    .venv/bin/python notebooks/overview.py         # or give another folder

Examples and questions are photographs of classes that the model never saw. For every class the first photograph in the
collection's order is the example and the next five are the questions. The class with the best mean IoU is drawn.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fss
from fss.collection import Collection
from fss.collection.index import Sample
from fss.collection.overview import sample_labels
from fss.images.mask_codec import binary_mask
from fss.images.sheet_layout import grid_of, with_caption
from fss.inference.painted import PaintedModelWarning
from fss.inference.predictor import Predictor
from fss.visualize import fit, jpeg_bytes, overlay

ANSWERS, SIDE = 5, 164
PICTURE = Path(__file__).parent / "images/overview.jpg"
PHOTOGRAPHS = Path(__file__).parent / "images/painted"


def main() -> None:
    """Draw the picture and print the IoU of every class."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/masksplit")
    collection = Collection.open(str(folder / "evaluation"))
    samples = list(sample_labels(collection.mask_set("truth"), count=1_000_000, seed=0))
    with warnings.catch_warnings(action="ignore", category=PaintedModelWarning):
        segmenter = fss.load_segmenter(folder)
    answers = {}
    for class_id in collection.class_splits["novel"]:
        shown = [sample for sample in samples if class_id in sample.classes][: ANSWERS + 1]
        answers[class_id] = answer(segmenter, shown, class_id)
        print(f"{collection.classes[class_id]}: IoU {', '.join(f'{iou:.0%}' for _, _, iou in answers[class_id][1:])}")
    best = max(answers, key=lambda class_id: np.mean([iou for _, _, iou in answers[class_id][1:]]))
    cells = []
    for number, (rgb, mask, iou) in enumerate(answers[best]):
        picture, label = fit(rgb, mask, SIDE)
        caption = f"answer {number}: IoU {iou:.0%}" if number else "the example"
        cells.append(with_caption(overlay(picture, label), caption))
    PICTURE.write_bytes(jpeg_bytes(grid_of(cells, 6)))
    PHOTOGRAPHS.mkdir(exist_ok=True)
    for number, (rgb, _, _) in enumerate(answers[best]):
        (PHOTOGRAPHS / f"{number}.jpg").write_bytes(jpeg_bytes(rgb))
    rows, columns = np.nonzero(answers[best][0][1] == 1)
    print(f"{collection.classes[best]}, in the example in {columns.min()},{rows.min()},{columns.max()},{rows.max()}")


def answer(segmenter: Predictor, shown: Sequence[Sample], class_id: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return image, mask and IoU of the example, whose mask is true, and of the answers."""
    truths = [binary_mask(sample.mask, sample.classes, class_id) for sample in shown]
    example = segmenter.examples([shown[0].rgb], [truths[0]])
    masks = [example.predict(sample.rgb).mask for sample in shown[1:]]
    ious = [
        float(((mask == 1) & (truth == 1)).sum() / ((mask == 1) | (truth == 1)).sum())
        for mask, truth in zip(masks, truths[1:], strict=True)
    ]
    return list(zip([sample.rgb for sample in shown], [truths[0], *masks], [1.0, *ious], strict=True))


if __name__ == "__main__":
    main()
