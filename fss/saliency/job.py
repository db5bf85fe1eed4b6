"""The work of one part: a plain function of names, so that any driver can map it over part names."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fss.collection import Collection
from fss.collection.decode import DecodeError, DecodeLimits, decode_image
from fss.collection.mask_codec import mask_row
from fss.collection.references import picture_bytes
from fss.collection.schema import mask_table
from fss.saliency.backends import Estimator, EstimatorSettings, create_estimator
from fss.saliency.estimator import SaliencyResult
from fss.saliency.quality import HARD_GATES

OBJECT = 1
"""Class id of the salient object in a pseudo-mask set."""
COLUMNS = ["image_id", "image", "uri", "error"]
"""What is read of an image part."""


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
    estimator = kept_estimator(cfg, device, masks.config_hash)
    records = collection.read_part(part, COLUMNS).to_pylist()
    rows = [_row(estimator, decode(record, collection.limits)) for record in records]
    masks.write_part(part, mask_table(rows))
    return statistics(part, rows)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row of an image part, decoded."""

    image_id: str
    """Its identity."""
    rgb: npt.NDArray[np.uint8] | None
    """uint8 [H,W,3]; None where there is an error."""
    error: str | None
    """Why it cannot be used."""


def decode(record: Mapping[str, Any], limits: DecodeLimits) -> Picture:
    """Decode a row of an image part (:data:`COLUMNS`); what fails carries its reason."""
    rgb, error = None, record["error"]
    if not error:
        try:
            rgb = decode_image(picture_bytes(record["image"], record["uri"], limits), limits)
        except DecodeError as failure:
            error = str(failure)
        except Exception as failure:
            error = reason(failure)
    return Picture(image_id=record["image_id"], rgb=rgb, error=error)


def row_of(picture: Picture, result: SaliencyResult | str) -> dict[str, Any]:
    """Encode a row of the mask part; ``result`` is a result, or why there is none."""
    if isinstance(result, str):
        return mask_row(picture.image_id, None, error=result)
    classes = [OBJECT] if result.mask.any() else []
    return mask_row(picture.image_id, result.mask, classes, soft=result.soft, scores=result.scores)


def reason(failure: Exception) -> str:
    """The error of a row whose picture an estimator could not take."""
    return f"saliency: {type(failure).__name__}: {failure}"


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
def kept_estimator(cfg: EstimatorSettings, device: str, config_hash: str) -> Estimator:
    """Keep the estimator from part to part; the mask set's hash tells weights apart that were one name's."""
    return create_estimator(cfg, device=device)


def _row(estimator: Estimator, picture: Picture) -> dict[str, Any]:
    if picture.rgb is None:
        return row_of(picture, str(picture.error))
    try:
        return row_of(picture, estimator.estimate(picture.rgb, image_id=picture.image_id))
    except Exception as failure:
        # One strange picture must not cost its part; the reason is kept, and the driver counts errors.
        return row_of(picture, reason(failure))
