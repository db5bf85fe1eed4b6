"""Masks of all pictures by a semantic network: the end of a stage, and its evaluate_network on labelled pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fss.collection import Collection, MaskSet
from fss.collection.class_map import ClassTable, shrink_image
from fss.collection.part_pipeline import IMAGE_COLUMNS, DecodedImage, Row, Statistics, decode_row, process_parts
from fss.collection.schema import mask_table
from fss.core.arrays import IGNORE, UInt8
from fss.evaluation.semantic import ConfusionMatrix
from fss.images.mask_codec import decode_mask, mask_row
from fss.models.semantic.network import SemanticNetwork
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import SemanticRows

AHEAD = 16
"""Decoded pictures handed to the network's thread at a time; each is a pass of its own, at its own size."""


@dataclass(frozen=True, kw_only=True)
class SemanticMasker:
    """What makes the masks of a stage: argmax of the main head, one picture at a time, no test-time augmentation."""

    network: SemanticNetwork
    """The stage's last weights: of the teacher where there is one. In evaluation mode."""
    table: ClassTable
    """Numbers of the classes."""
    earlier: tuple[SemanticNetwork, ...] = ()
    """Earlier checkpoints; how far they agree with the last becomes the score ``checkpoint``."""
    shrink: int = 1
    """What the sides of the pictures are divided by; masks have the pictures' own size."""
    confidence: float | None = None
    """Pixels below this probability are ignored."""

    def rows(self, pictures: Sequence[DecodedImage]) -> list[Row]:
        """Return the rows of a mask part."""
        return [self._row(picture) for picture in pictures]

    def _row(self, picture: DecodedImage) -> Row:
        if picture.rgb is None:
            return mask_row(picture.image_id, None, error=str(picture.error))
        small = shrink_image(picture.rgb, self.shrink)
        labels = self._labels(self.network, small)
        scores = None
        if self.earlier:
            others = [self._labels(network, small) for network in self.earlier]
            scores = {"checkpoint": stability(labels, others, len(self.table))}
        height, width = picture.rgb.shape[:2]
        if labels.shape != (height, width):
            labels = np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        mask, class_ids = self.table.to_mask(labels)
        return mask_row(picture.image_id, mask, class_ids, scores=scores)

    @torch.inference_mode()
    def _labels(self, network: SemanticNetwork, rgb: NDArray[np.uint8]) -> UInt8:
        device = next(network.parameters()).device
        pixels = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).to(device)
        logits = network(pixels[None]).main[0]
        labels = np.asarray(logits.argmax(0).to(torch.uint8).cpu().numpy(), np.uint8)
        if self.confidence is not None:
            labels[(logits.softmax(0).amax(0) < self.confidence).cpu().numpy()] = IGNORE
        return labels


def stability(last: UInt8, earlier: Sequence[UInt8], classes: int) -> float:
    """Mean over earlier masks of their mIoU with the last one (ST++, Yang et al., CVPR 2022, section 3.3)."""
    values = []
    for labels in earlier:
        confusion = ConfusionMatrix(classes)
        confusion.add(labels, last)
        values.append(confusion.miou())
    return float(np.mean(values))


def write_semantic_parts(
    parts: Sequence[str], *, masks: MaskSet, masker: SemanticMasker
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Make the masks of the pictures of some parts; pictures are decoded ahead of the network.

    Args:
        parts: names of image parts.
        masks: the set to write to.
        masker: what makes them.

    Yields:
        Each part with its statistics once it is written, or with what went wrong; the other parts go on.
    """
    cv2.setNumThreads(1)
    read = partial(_read, masks.collection)
    return process_parts(parts, read=read, work=masker.rows, encode=lambda _, row: row, write=partial(_write, masks))


def evaluate_network(network: nn.Module, reader: SemanticReader, rows: SemanticRows, truth: MaskSet) -> ConfusionMatrix:
    """Compare the main head's answers with the truth of the labelled pictures of ``rows``, at the reader's size."""
    assert isinstance(network, SemanticNetwork)
    confusion, training = ConfusionMatrix(network.classes), network.training
    network.eval()
    for part, numbers in enumerate(rows.labelled):
        for row in numbers.tolist():
            rgb = reader.picture(part, row)
            pixels = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].to(network.mean.device)
            confusion.add(
                network.predict(pixels)[0], torch.from_numpy(reader.labels(truth, part, row)).to(pixels.device)
            )
    network.train(training)
    return confusion


def compare_mask_sets(masks: MaskSet, truth: MaskSet, table: ClassTable, parts: Sequence[str]) -> ConfusionMatrix:
    """Compare two mask sets over the pictures that have a mask in both: what masks are worth, where truth is known."""
    confusion = ConfusionMatrix(len(table))
    for part in parts:
        pairs = [_columns(each, part, table) for each in (masks, truth)]
        for said, true in zip(*pairs, strict=True):
            if said is not None and true is not None:
                confusion.add(said, true)
    return confusion


def _columns(masks: MaskSet, part: str, table: ClassTable) -> list[UInt8 | None]:
    rows: list[dict[str, Any]] = masks.read_part(part, ["mask", "classes", "error"]).to_pylist()
    return [None if row["error"] else table.to_labels(decode_mask(row["mask"]), row["classes"]) for row in rows]


def _write(masks: MaskSet, part: str, rows: list[Row]) -> Statistics:
    masks.write_part(part, mask_table(rows))
    return {"part": part, "images": len(rows), "errors": sum(bool(row["error"]) for row in rows)}


def _read(collection: Collection, part: str) -> Iterator[list[DecodedImage]]:
    records = collection.read_part(part, IMAGE_COLUMNS).to_pylist()
    for start in range(0, len(records), AHEAD):
        yield [decode_row(record, collection.limits) for record in records[start : start + AHEAD]]
