"""Relabelling of parts: first the features of all images, then, once their neighbours are known, the new masks.

Both are plain functions of part names. Images are decoded ahead of the network, and rows are encoded and written behind
it (``fss.collection.part_pipeline``).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from fss.collection import MaskSet
from fss.collection.part_pipeline import (
    ALL_ROWS,
    IMAGE_COLUMNS,
    Row,
    RowSelection,
    Statistics,
    decode_row,
    process_parts,
)
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import any_class, decode_mask, mask_row
from fss.images.resize import image_canvas, mask_canvas
from fss.models.segmenter import FewShotSegmenter
from fss.relabel import feature_tables
from fss.relabel.edge_refinement import shrink_to_working_size
from fss.relabel.features import pooled_features, project
from fss.relabel.labels import VoteSet, make_label
from fss.relabel.relabeller import RelabelInput, Relabeller
from fss.relabel.views import View, network_input
from fss.saliency.pseudomask import statistics, write_masks

BATCH = 16  # images in a forward pass; fixed, because the last digits of a sum depend on the batch


def feature_parts(
    parts: Sequence[str],
    *,
    masks: MaskSet,
    current: MaskSet,
    segmenter: FewShotSegmenter,
    dims: int,
    seed: int,
    device: str = "cpu",
    selection: RowSelection = ALL_ROWS,
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Write the features of the images of some parts beside the new mask set.

    Args:
        parts: names of image parts.
        masks: the new mask set.
        current: the masks within which features are averaged.
        segmenter: the segmenter whose backbone encodes the images; it is on ``device``.
        dims: dimensions of a feature vector.
        seed: seed of the random projection to ``dims`` dimensions.
        device: where the network runs.
        selection: the rows of each part to make; a part is only written if it is complete.

    Yields:
        Each part with its statistics once it is written, or with the error that stopped it; other parts continue.
    """
    size = segmenter.config.image_size

    @torch.inference_mode()
    def work(batch: list[RelabelInput]) -> list[list[float] | None]:
        usable = [item for item in batch if item.rgb is not None]
        vectors: dict[str, list[float]] = {}
        if usable:
            canvases = torch.from_numpy(np.stack([item.canvas for item in usable])).to(device)
            objects = torch.from_numpy(np.stack([item.object for item in usable])).to(device)
            pooled = pooled_features(segmenter, network_input(canvases, View()), objects)
            projected = project(pooled, dims, seed=seed).float().cpu().tolist()
            vectors = dict(zip((item.image_id for item in usable), projected, strict=True))
        return [vectors.get(item.image_id) for item in batch]

    def encode(item: RelabelInput, feature: list[float] | None) -> Row:
        masked = feature is not None and bool(item.object.any())
        return {"image_id": item.image_id, "feature": feature, "masked": masked}

    def write(part: str, rows: list[Row]) -> Statistics:
        if selection.only is None:
            feature_tables.write(masks, "features", part, rows)
        return {"part": part, "images": len(rows)}

    cv2.setNumThreads(1)
    read = partial(_read, current, size, None, selection)
    return process_parts(parts, read=read, work=work, encode=encode, write=write)


def relabel_parts(
    parts: Sequence[str],
    *,
    masks: MaskSet,
    current: MaskSet,
    relabeller: Relabeller,
    selection: RowSelection = ALL_ROWS,
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Write new masks for the images of some parts.

    An image that cannot be used, or that has no support, gets the reason in ``error`` and never stops its part.

    Args:
        parts: names of image parts whose neighbours are written already.
        masks: the mask set to write to.
        current: the current masks.
        relabeller: collects the votes.
        selection: the rows of each part to make; a part is only written if it is complete.

    Yields:
        Each part with its statistics once it is written (``network`` is the seconds spent in the networks), or with the
        error that stopped it; other parts continue.
    """
    reported = relabeller.seconds

    def encode(item: RelabelInput, votes: VoteSet | str) -> Row:
        if isinstance(votes, str):
            return mask_row(item.image_id, None, error=votes)
        label = make_label(votes, item.shape, relabeller.config, item.guide)
        return mask_row(item.image_id, label.mask, label.classes, soft=label.soft, scores=label.scores)

    def write(part: str, rows: list[Row]) -> Statistics:
        nonlocal reported  # a single thread writes
        before, reported = reported, relabeller.seconds
        made = write_masks(masks, part, rows) if selection.only is None else statistics(part, rows)
        return made | {"network": round(reported - before, 3)}

    cv2.setNumThreads(1)
    read = partial(_read, current, relabeller.size, masks, selection, guided=relabeller.config.edges)
    return process_parts(parts, read=read, work=relabeller.collect_votes, encode=encode, write=write)


def _read(
    current: MaskSet,
    size: int,
    neighbours: MaskSet | None,
    selection: RowSelection,
    part: str,
    guided: bool = False,
) -> Iterator[list[RelabelInput]]:
    """Yield the images of a part in batches, on canvases of ``size`` pixels, with their masks and neighbours."""
    collection = current.collection
    images = selection.pick_images(collection.read_part(part, IMAGE_COLUMNS).to_pylist())
    masks = selection.pick(current.read_part(part, ["mask"]).column("mask").to_pylist())
    near = [None] * len(images)
    if neighbours:
        near = selection.pick(feature_tables.read(neighbours, "neighbours", part).to_pylist())
    limits = collection.limits
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        yield [
            _relabel_input(size, limits, guided, *row)
            for row in zip(images[rows], masks[rows], near[rows], strict=True)
        ]


def _relabel_input(
    size: int,
    limits: DecodeLimits,
    guided: bool,
    image: Row,
    mask: bytes | None,
    near: Mapping[str, list[Any]] | None,
) -> RelabelInput:
    picture = decode_row(image, limits)
    if picture.rgb is None:
        return RelabelInput(image_id=picture.image_id, error=picture.error)
    return RelabelInput(
        image_id=picture.image_id,
        shape=picture.rgb.shape[:2],
        rgb=image_canvas(picture.rgb, size),
        guide=shrink_to_working_size(picture.rgb) if guided else None,
        mask=None if mask is None else any_class(mask_canvas(decode_mask(mask), size)),
        neighbours=near["supports"] if near else (),
        similarity=near["similarity"] if near else (),
    )
