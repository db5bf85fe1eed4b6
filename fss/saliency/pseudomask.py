"""The work of one part: a plain function of names, so that any driver can map it over part names."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from fss.collection import Collection, MaskSet
from fss.collection.part_pipeline import (
    IMAGE_COLUMNS,
    DecodedImage,
    Row,
    Statistics,
    decode_row,
    process_parts,
    stage_error,
)
from fss.collection.schema import HARD_GATES, mask_table
from fss.images.mask_codec import mask_row
from fss.saliency.classical.estimator import SaliencyResult
from fss.saliency.estimators import Estimator, EstimatorSettings, create_estimator

BATCH = 32  # pictures in a pass of the network: full-size pictures wait in memory, AHEAD + 1 batches of them
OBJECT = 1
"""Class id of the salient object in a pseudo-mask set."""


def pseudomask_part(
    collection_uri: str, set_name: str, part: str, cfg: EstimatorSettings, *, device: str = "cpu"
) -> dict[str, object]:
    """Estimate every picture of a part and write the mask part.

    A picture that the collection holds as unusable stays so; one that fails here gets its reason in ``error`` and
    never stops the part. Runs on one thread: drivers start one process per core.

    Args:
        collection_uri: of the collection.
        set_name: a mask set that exists already (``Collection.create_mask_set``).
        part: name of the image part.
        cfg: the settings of the estimator, whose type says which one it is.
        device: where a network runs.

    Returns:
        One row of statistics: part, images, errors, and of the rest accepted (all hard gates passed) and rejected.
    """
    cv2.setNumThreads(1)
    collection = Collection.open(collection_uri)
    masks = collection.mask_set(set_name)
    estimator = cached_estimator(cfg, device, masks.config_hash)
    records = collection.read_part(part, IMAGE_COLUMNS).to_pylist()
    rows = [_row(estimator, decode_row(record, collection.limits)) for record in records]
    masks.write_part(part, mask_table(rows))
    return statistics(part, rows)


def encode_mask_row(picture: DecodedImage, result: SaliencyResult | str) -> dict[str, Any]:
    """Encode a row of the mask part; ``result`` is a result, or why there is none."""
    if isinstance(result, str):
        return mask_row(picture.image_id, None, error=result)
    classes = [OBJECT] if result.mask.any() else []
    return mask_row(picture.image_id, result.mask, classes, soft=result.soft, scores=result.scores)


def statistics(part: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """One row of statistics about a finished part."""
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
def cached_estimator(cfg: EstimatorSettings, device: str, config_hash: str) -> Estimator:
    """Keep the estimator from part to part; the mask set's hash tells weights apart that were one name's."""
    return create_estimator(cfg, device=device)


def _row(estimator: Estimator, picture: DecodedImage) -> dict[str, Any]:
    if picture.rgb is None:
        return encode_mask_row(picture, str(picture.error))
    try:
        return encode_mask_row(picture, estimator.estimate(picture.rgb, image_id=picture.image_id))
    except Exception as failure:
        # One strange picture must not cost its part; the reason is kept, and the driver counts errors.
        return encode_mask_row(picture, stage_error(failure, "saliency"))


@runtime_checkable
class BatchEstimator(Protocol):
    """An estimator that takes several pictures in one pass."""

    def estimate_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[SaliencyResult]:
        """Find the salient objects of uint8 RGB [H,W,3] pictures."""


def pseudomask_parts(
    parts: Sequence[str], *, collection_uri: str, set_name: str, cfg: EstimatorSettings, device: str
) -> Iterator[tuple[str, Statistics | Exception]]:
    """Make several mask parts one after the other; the same rows as ``pseudomask_part`` makes.

    Args:
        parts: names of image parts.
        collection_uri: of the collection.
        set_name: a mask set that exists already.
        cfg: settings of the estimator.
        device: where its network runs.

    Yields:
        Each part with its statistics once it is written, or with what went wrong; the other parts go on.
    """
    cv2.setNumThreads(1)
    collection = Collection.open(collection_uri)
    masks = collection.mask_set(set_name)
    estimator = cached_estimator(cfg, device, masks.config_hash)
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
    """The decoded pictures of a part, batch by batch."""
    records = collection.read_part(part, IMAGE_COLUMNS).to_pylist()
    for start in range(0, len(records), BATCH):
        yield [decode_row(record, collection.limits) for record in records[start : start + BATCH]]


def estimate_all(estimator: Estimator, pictures: Sequence[DecodedImage]) -> list[SaliencyResult | str]:
    """Results of the pictures, or why there is none, in passes of :data:`BATCH` where the estimator can."""
    good = [picture for picture in pictures if picture.rgb is not None]
    batches = [good[start : start + BATCH] for start in range(0, len(good), BATCH)]
    results = [result for batch in batches for result in _estimate(estimator, batch)]
    found = dict(zip((id(picture) for picture in good), results, strict=True))
    return [found.get(id(picture), str(picture.error)) for picture in pictures]


def _estimate(estimator: Estimator, pictures: Sequence[DecodedImage]) -> list[SaliencyResult | str]:
    if isinstance(estimator, BatchEstimator) and len(pictures) > 1:
        try:
            return list(estimator.estimate_batch([_rgb(picture) for picture in pictures]))
        except Exception:  # one of them is strange: find out which
            return [result for picture in pictures for result in _estimate(estimator, [picture])]
    results: list[SaliencyResult | str] = []
    for picture in pictures:
        try:
            results.append(estimator.estimate(_rgb(picture), image_id=picture.image_id))
        except Exception as failure:
            results.append(stage_error(failure, "saliency"))
    return results


def _rgb(picture: DecodedImage) -> npt.NDArray[np.uint8]:
    assert picture.rgb is not None, "only decoded pictures are estimated"
    return picture.rgb
