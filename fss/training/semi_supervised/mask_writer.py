"""Predict and write the masks of all pictures at the end of a stage, and compare them with labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fss.collection import Collection, MaskSet
from fss.collection.class_map import ClassTable, shrink_image
from fss.collection.part_pipeline import (
    ALL_ROWS,
    IMAGE_COLUMNS,
    DecodedImage,
    Row,
    RowSelection,
    Statistics,
    decode_row,
    process_parts,
)
from fss.collection.schema import mask_table
from fss.core.arrays import IGNORE, UInt8
from fss.core.prefetch import prefetch
from fss.evaluation.semantic import ConfusionMatrix
from fss.images.mask_codec import decode_mask, mask_row
from fss.models.config import Precision
from fss.models.precision import autocast
from fss.models.semantic.network import SemanticNetwork
from fss.training.semi_supervised.config import MaskTta
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import SemanticRows
from fss.training.workers import sum_arrays_over_workers, worker_rank, world_size

SCALES: dict[MaskTta, tuple[float, ...]] = {"none": (1.0,), "flip": (1.0,), "multiscale": (0.5, 0.75, 1.0, 1.5, 2.0)}
"""Sizes at which a picture is predicted, as factors of its sides; those of ST++ (Yang et al., CVPR 2022)."""
AHEAD = 16
"""Number of pictures that are decoded together; the network processes each one separately, at its own size."""


@dataclass(frozen=True, kw_only=True)
class SemanticMasker:
    """Predicts the masks of a stage by the argmax of the main head, one picture at a time."""

    network: SemanticNetwork
    """Network in evaluation mode with the final weights of the stage; those of the teacher in stages 2 and 3."""
    table: ClassTable
    """The class ids of the network's output channels."""
    earlier: tuple[SemanticNetwork, ...] = ()
    """Networks of earlier checkpoints; their agreement with the final one becomes the score ``checkpoint``."""
    shrink: int = 1
    """Factor by which the sides of the pictures are divided; the masks have the size of the pictures."""
    confidence: float | None = None
    """Pixels whose probability is lower are ignored; None ignores no pixel."""
    tta: MaskTta = "none"
    """Passes whose mean probabilities make the masks: one, with a mirrored one, or both at all of :data:`SCALES`."""
    precision: Precision = "fp32"
    """Precision of the networks' arithmetic."""

    def rows(self, pictures: Sequence[DecodedImage]) -> list[Row]:
        """Return the rows of a mask part for decoded pictures, in their order."""
        return [self._row(picture) for picture in pictures]

    def _row(self, picture: DecodedImage) -> Row:
        if picture.rgb is None:
            return mask_row(picture.image_id, None, error=str(picture.error))
        small = shrink_image(picture.rgb, self.shrink)
        labels = self._labels(self.network, small)
        scores = None
        if self.earlier:
            earlier_labels = [self._labels(network, small) for network in self.earlier]
            scores = {"checkpoint": stability(labels, earlier_labels, len(self.table))}
        height, width = picture.rgb.shape[:2]
        if labels.shape != (height, width):
            labels = np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        mask, class_ids = self.table.to_mask(labels)
        return mask_row(picture.image_id, mask, class_ids, scores=scores)

    @torch.inference_mode()
    def _labels(self, network: SemanticNetwork, rgb: NDArray[np.uint8]) -> UInt8:
        device = next(network.parameters()).device
        pixels = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).to(device)[None]
        with autocast(device, self.precision):
            scores = self._scores(network, pixels)
        labels = np.asarray(scores.argmax(0).to(torch.uint8).cpu().numpy(), np.uint8)
        if self.confidence is not None:
            probabilities = scores.softmax(0) if self.tta == "none" else scores
            labels[(probabilities.amax(0) < self.confidence).cpu().numpy()] = IGNORE
        return labels

    def _scores(self, network: SemanticNetwork, pixels: Tensor) -> Tensor:
        """Return the logits [C,H,W] of one pass, or the mean probabilities of several."""
        if self.tta == "none":
            logits: Tensor = network(pixels).main[0].float()
            return logits
        passes, size = [], pixels.shape[-2:]
        for scale in SCALES[self.tta]:
            view = pixels
            if scale != 1:
                sides = [max(1, round(side * scale)) for side in size]
                view = F.interpolate(pixels.float(), sides, mode="bilinear", antialias=scale < 1)
            for mirrored in (False, True):
                logits = network(view.flip(3) if mirrored else view).main.float()
                probabilities = (logits.flip(3) if mirrored else logits).softmax(1)
                passes.append(F.interpolate(probabilities, size, mode="bilinear") if scale != 1 else probabilities)
        return torch.stack(passes).mean(0)[0]


def stability(last: UInt8, earlier: Sequence[UInt8], classes: int) -> float:
    """Return the mean mIoU of earlier class maps with the last one (ST++, Yang et al., CVPR 2022, section 3.3).

    Args:
        last: class map of the last checkpoint, uint8 [H,W], 255 ignored.
        earlier: class maps of earlier checkpoints, in the same format.
        classes: number of classes.
    """
    values = []
    for labels in earlier:
        confusion = ConfusionMatrix(classes)
        confusion.add(labels, last)
        values.append(confusion.miou())
    return float(np.mean(values))


def write_semantic_parts(
    parts: Sequence[str], *, masks: MaskSet, masker: SemanticMasker, selection: RowSelection = ALL_ROWS
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Predict and write the masks of some parts, decoding pictures ahead of the network.

    Args:
        parts: names of image parts.
        masks: the mask set to write to.
        masker: predicts the masks.
        selection: the rows of each part to make; a part is only written if it is complete.

    Yields:
        The name of each part with its statistics, once it is written, or with the exception that it raised. After an
        exception the other parts are still processed.
    """
    cv2.setNumThreads(1)
    read, write = partial(_read, masks.collection, selection), partial(_write, masks, selection)
    return process_parts(parts, read=read, work=masker.rows, encode=lambda _, row: row, write=write)


def evaluate_network(
    network: SemanticNetwork,
    reader: SemanticReader,
    rows: SemanticRows,
    truth: MaskSet,
    *,
    precision: Precision = "fp32",
) -> ConfusionMatrix:
    """Return the confusion matrix of the main head on the labelled pictures of ``rows``, at the size of the reader.

    The network is used in evaluation mode, and its mode is restored. The workers of a training share the pictures, so
    all of them have to call this function; each gets the counts of all pictures.
    """
    positions = [(part, row) for part, numbers in enumerate(rows.labelled) for row in numbers.tolist()]
    rank, world = worker_rank(), world_size()
    own = positions[len(positions) * rank // world : len(positions) * (rank + 1) // world]
    device, confusion, training = network.mean.device, ConfusionMatrix(network.classes), network.training
    network.eval()
    for rgb, labels in prefetch((reader.picture(*each), reader.labels(truth, *each)) for each in own):
        pixels = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].to(device)
        with autocast(device, precision):
            prediction = network.predict(pixels)[0]
        confusion.add(prediction, torch.from_numpy(labels).to(device))
    network.train(training)
    confusion.counts = sum_arrays_over_workers(confusion.counts, device)
    return confusion


def compare_mask_sets(masks: MaskSet, truth: MaskSet, table: ClassTable, parts: Sequence[str]) -> ConfusionMatrix:
    """Return the confusion matrix of two mask sets over the pictures that have a mask in both."""
    confusion = ConfusionMatrix(len(table))
    for part in parts:
        for labels, true_labels in zip(_read_labels(masks, part, table), _read_labels(truth, part, table), strict=True):
            if labels is not None and true_labels is not None:
                confusion.add(labels, true_labels)
    return confusion


def _read_labels(masks: MaskSet, part: str, table: ClassTable) -> list[UInt8 | None]:
    rows: list[dict[str, Any]] = masks.read_part(part, ["mask", "classes", "error"]).to_pylist()
    return [None if row["error"] else table.to_labels(decode_mask(row["mask"]), row["classes"]) for row in rows]


def _write(masks: MaskSet, selection: RowSelection, part: str, rows: list[Row]) -> Statistics:
    if selection.only is None:
        masks.write_part(part, mask_table(rows))
    return {"part": part, "images": len(rows), "errors": sum(bool(row["error"]) for row in rows)}


def _read(collection: Collection, selection: RowSelection, part: str) -> Iterator[list[DecodedImage]]:
    rows = selection.pick_images(collection.read_part(part, IMAGE_COLUMNS).to_pylist())
    for start in range(0, len(rows), AHEAD):
        yield [decode_row(row, collection.limits) for row in rows[start : start + AHEAD]]
