"""Pseudo-masks of parts, as plain functions of names that any driver can map over part names."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from fss.collection import Collection, MaskSet
from fss.collection.part_pipeline import (
    ALL_ROWS,
    IMAGE_COLUMNS,
    DecodedImage,
    Row,
    RowSelection,
    Statistics,
    decode_row,
    process_parts,
    stage_error,
)
from fss.collection.schema import HARD_GATES, mask_table
from fss.images.mask_codec import mask_row
from fss.models.config import Precision
from fss.saliency.classical.estimator import SaliencyResult
from fss.saliency.estimators import Estimator, EstimatorSettings, create_estimator

BATCH = 32  # images per pass of the network; AHEAD + 1 batches of full-size images wait in memory
OBJECT = 1
"""Class id of the salient object in a pseudo-mask set."""


def pseudomask_part(
    collection_uri: str,
    set_name: str,
    part: str,
    cfg: EstimatorSettings,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    selection: RowSelection = ALL_ROWS,
) -> dict[str, object]:
    """Estimate every image of a part and write the mask part.

    An image with an error in the collection keeps it. An image that fails here gets the reason in ``error`` and never
    stops the part. The function runs on one thread, because drivers start one process per core.

    Args:
        collection_uri: URI of the collection.
        set_name: name of a mask set that exists already (``Collection.create_mask_set``).
        part: name of the image part.
        cfg: settings of the estimator; their type selects the estimator.
        device: where a network runs.
        precision: precision of its arithmetic.
        selection: the rows to make; the part is only written if it is complete.

    Returns:
        Statistics: part, images, errors, and the others as accepted (all hard gates passed) or rejected.
    """
    cv2.setNumThreads(1)
    collection = Collection.open(collection_uri)
    masks = collection.mask_set(set_name)
    estimator = cached_estimator(cfg, device, precision, masks.config_hash)
    rows: list[Row] = []
    for image in selection.pick_images(collection.read_part(part, IMAGE_COLUMNS).to_pylist()):
        picture = decode_row(image, collection.limits)
        (result,) = estimate_all(estimator, [picture])
        rows.append(encode_mask_row(picture, result))
    return write_masks(masks, part, rows) if selection.only is None else statistics(part, rows)


def encode_mask_row(picture: DecodedImage, result: SaliencyResult | str) -> dict[str, Any]:
    """Encode a row of the mask part from a result, or from the reason why there is none."""
    if isinstance(result, str):
        return mask_row(picture.image_id, None, error=result)
    classes = [OBJECT] if result.mask.any() else []
    return mask_row(picture.image_id, result.mask, classes, soft=result.soft, scores=result.scores)


def statistics(part: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the statistics of a finished part (see :func:`pseudomask_part`)."""
    errors = sum(bool(row["error"]) for row in rows)
    accepted = sum(bool(row["scores"]) and all(row["scores"][gate] for gate in HARD_GATES) for row in rows)
    return {
        "part": part,
        "images": len(rows),
        "errors": errors,
        "accepted": accepted,
        "rejected": len(rows) - errors - accepted,
    }


@functools.lru_cache(maxsize=1)
def cached_estimator(cfg: EstimatorSettings, device: str, precision: Precision, config_hash: str) -> Estimator:
    """Return the estimator, cached from part to part; ``config_hash`` covers the contents of weight files."""
    return create_estimator(cfg, device=device, precision=precision)


@runtime_checkable
class BatchEstimator(Protocol):
    """An estimator that takes several images in one pass."""

    def estimate_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[SaliencyResult]:
        """Segment the salient objects of RGB images, uint8 [H,W,3] each."""


def pseudomask_parts(
    parts: Sequence[str],
    *,
    collection_uri: str,
    set_name: str,
    cfg: EstimatorSettings,
    device: str,
    precision: Precision = "fp32",
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Write several mask parts with overlapping stages; the rows are those of :func:`pseudomask_part`.

    Args:
        parts: names of image parts.
        collection_uri: URI of the collection.
        set_name: name of a mask set that exists already.
        cfg: settings of the estimator.
        device: where its network runs.
        precision: precision of its network's arithmetic.

    Yields:
        Each part with its statistics once it is written, or with the error that stopped it; other parts continue.
    """
    cv2.setNumThreads(1)
    collection = Collection.open(collection_uri)
    masks = collection.mask_set(set_name)
    estimator = cached_estimator(cfg, device, precision, masks.config_hash)
    return process_parts(
        parts,
        read=partial(_batches, collection),
        work=partial(estimate_all, estimator),
        encode=encode_mask_row,
        write=partial(write_masks, masks),
    )


def write_masks(masks: MaskSet, part: str, rows: list[Row]) -> Statistics:
    """Write a mask part and return its statistics."""
    masks.write_part(part, mask_table(rows))
    return statistics(part, rows)


def _batches(collection: Collection, part: str) -> Iterator[list[DecodedImage]]:
    """Yield the decoded images of a part in batches."""
    images = collection.read_part(part, IMAGE_COLUMNS).to_pylist()
    for start in range(0, len(images), BATCH):
        yield [decode_row(image, collection.limits) for image in images[start : start + BATCH]]


def estimate_all(estimator: Estimator, pictures: Sequence[DecodedImage]) -> list[SaliencyResult | str]:
    """Return the result of each image, or the reason why there is none, in passes of :data:`BATCH` where possible."""
    good = [picture for picture in pictures if picture.rgb is not None]
    batches = [good[start : start + BATCH] for start in range(0, len(good), BATCH)]
    results = [result for batch in batches for result in _estimate(estimator, batch)]
    by_picture = dict(zip((id(picture) for picture in good), results, strict=True))
    return [by_picture.get(id(picture), str(picture.error)) for picture in pictures]


def _estimate(estimator: Estimator, pictures: Sequence[DecodedImage]) -> list[SaliencyResult | str]:
    if isinstance(estimator, BatchEstimator) and len(pictures) > 1:
        try:
            return list(estimator.estimate_batch([_rgb(picture) for picture in pictures]))
        except Exception:  # retry one by one, so that only the faulty image fails
            return [result for picture in pictures for result in _estimate(estimator, [picture])]
    results: list[SaliencyResult | str] = []
    for picture in pictures:
        try:
            results.append(estimator.estimate(_rgb(picture), image_id=picture.image_id))
        except Exception as failure:  # a faulty image must not stop its part
            results.append(stage_error(failure, "saliency"))
    return results


def _rgb(picture: DecodedImage) -> npt.NDArray[np.uint8]:
    assert picture.rgb is not None, "only decoded images are estimated"
    return picture.rgb
