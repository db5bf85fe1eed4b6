"""The work on parts: features of all pictures first, then, with the neighbours known, new masks.

Both are plain functions of part names. Pictures are decoded ahead of the network, and rows are encoded and written
behind it, as the masks of the saliency room are.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from fss.collection import MaskSet
from fss.collection.part_pipeline import COLUMNS, Row, Statistics, decode, staged_parts
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import any_class, decode_mask, mask_row
from fss.images.resize import image_canvas, mask_canvas
from fss.models.segmenter import FewShotSegmenter
from fss.relabel import feature_tables
from fss.relabel.edge_refinement import working_picture
from fss.relabel.features import pooled_features, project
from fss.relabel.labels import VoteSet, make_label
from fss.relabel.relabeller import RelabelInput, Relabeller
from fss.relabel.views import View, network_input
from fss.saliency.pseudomask import write_masks

BATCH = 16  # pictures in a pass of the network; fixed, because sums depend on the batch in their last digits


def feature_parts(
    parts: Sequence[str],
    *,
    masks: MaskSet,
    current: MaskSet,
    segmenter: FewShotSegmenter,
    dims: int,
    seed: int,
    device: str = "cpu",
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Write the features of the pictures of some parts beside the mask set that is being made.

    Args:
        parts: names of image parts.
        masks: the set that is being made.
        current: the masks within which features are pooled.
        segmenter: whose backbone looks, on ``device``.
        dims: numbers of a feature.
        seed: of the projection to so many.
        device: where the network is.

    Yields:
        Each part with its statistics once it is written, or with what went wrong; the other parts go on.
    """
    size = segmenter.config.image_size

    @torch.inference_mode()
    def work(batch: list[RelabelInput]) -> list[list[float] | None]:
        seen = [known for known in batch if known.rgb is not None]
        found: dict[str, list[float]] = {}
        if seen:
            canvases = torch.from_numpy(np.stack([known.canvas for known in seen])).to(device)
            shown = np.stack([known.object for known in seen])
            pooled = pooled_features(segmenter, network_input(canvases, View()), torch.from_numpy(shown).to(device))
            short = project(pooled, dims, seed=seed).float().cpu().tolist()
            found = dict(zip((known.image_id for known in seen), short, strict=True))
        return [found.get(known.image_id) for known in batch]

    def encode(known: RelabelInput, feature: list[float] | None) -> Row:
        masked = feature is not None and bool(known.object.any())
        return {"image_id": known.image_id, "feature": feature, "masked": masked}

    def write(part: str, rows: list[Row]) -> Statistics:
        feature_tables.write(masks, "features", part, rows)
        return {"part": part, "images": len(rows)}

    cv2.setNumThreads(1)
    return staged_parts(parts, read=partial(_read, current, size, None), work=work, encode=encode, write=write)


def relabel_parts(
    parts: Sequence[str], *, masks: MaskSet, current: MaskSet, relabeller: Relabeller
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Make new masks for the pictures of some parts.

    A picture that cannot be used, or that has no support, gets its reason in ``error`` and never stops its part.

    Args:
        parts: names of image parts whose neighbours are known.
        masks: the set to write to.
        current: the masks of before.
        relabeller: what labels.

    Yields:
        Each part with its statistics once it is written (with ``network``, the seconds in the networks), or with what
        went wrong; the other parts go on.
    """
    told = relabeller.seconds

    def encode(known: RelabelInput, ballot: VoteSet | str) -> Row:
        if isinstance(ballot, str):
            return mask_row(known.image_id, None, error=ballot)
        label = make_label(ballot, known.shape, relabeller.config, known.guide)
        return mask_row(known.image_id, label.mask, label.classes, soft=label.soft, scores=label.scores)

    def write(part: str, rows: list[Row]) -> Statistics:
        nonlocal told  # by one thread only
        before, told = told, relabeller.seconds
        return write_masks(masks, part, rows) | {"network": round(told - before, 3)}

    cv2.setNumThreads(1)
    read = partial(_read, current, relabeller.size, masks, guided=relabeller.config.edges)
    return staged_parts(parts, read=read, work=relabeller.collect_votes, encode=encode, write=write)


def _read(
    current: MaskSet, size: int, neighbours: MaskSet | None, part: str, guided: bool = False
) -> Iterator[list[RelabelInput]]:
    """The pictures of a part on canvases of ``size`` pixels, with what is known of them, batch by batch."""
    collection = current.collection
    images = collection.read_part(part, COLUMNS).to_pylist()
    before = current.read_part(part, ["mask"]).column("mask").to_pylist()
    near = feature_tables.read(neighbours, "neighbours", part).to_pylist() if neighbours else [None] * len(images)
    limits = collection.limits
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        yield [_known(size, limits, guided, *row) for row in zip(images[rows], before[rows], near[rows], strict=True)]


def _known(
    size: int,
    limits: DecodeLimits,
    guided: bool,
    image: Row,
    mask: bytes | None,
    near: Mapping[str, list[Any]] | None,
) -> RelabelInput:
    picture = decode(image, limits)
    if picture.rgb is None:
        return RelabelInput(image_id=picture.image_id, error=picture.error)
    return RelabelInput(
        image_id=picture.image_id,
        shape=picture.rgb.shape[:2],
        rgb=image_canvas(picture.rgb, size),
        guide=working_picture(picture.rgb) if guided else None,
        mask=None if mask is None else any_class(mask_canvas(decode_mask(mask), size)),
        neighbours=near["supports"] if near else (),
        similarity=near["similarity"] if near else (),
    )
