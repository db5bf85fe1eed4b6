"""The work of one part: a plain function of names, so that any driver can map it over part names."""

import functools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fss.collection import Collection, files
from fss.collection.decode import DecodeError, DecodeLimits, decode_image
from fss.collection.mask_codec import mask_row
from fss.collection.schema import mask_table
from fss.saliency.backends import Estimator, EstimatorSettings, create_estimator
from fss.saliency.quality import HARD_GATES

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
    estimator = _estimator(cfg, device, masks.config_hash)
    table = collection.read_part(part, ["image_id", "image", "uri", "error"])
    rows = [_row(estimator, record, collection.limits) for record in table.to_pylist()]
    masks.write_part(part, mask_table(rows))
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
def _estimator(cfg: EstimatorSettings, device: str, config_hash: str) -> Estimator:
    """Keep the estimator from part to part; the mask set's hash tells weights apart that were one name's."""
    return create_estimator(cfg, device=device)


def _row(estimator: Estimator, record: dict[str, Any], limits: DecodeLimits) -> dict[str, Any]:
    image_id, error = record["image_id"], record["error"]
    if error:
        return mask_row(image_id, None, error=error)
    try:
        data = record["image"] or files.read_bytes(record["uri"])
        result = estimator.estimate(decode_image(data, limits), image_id=image_id)
        return mask_row(image_id, result.mask, _classes(result.mask), soft=result.soft, scores=result.scores)
    except DecodeError as failure:
        return mask_row(image_id, None, error=str(failure))
    except Exception as failure:
        # One strange picture must not cost its part; the reason is kept, and the driver counts errors.
        return mask_row(image_id, None, error=f"saliency: {type(failure).__name__}: {failure}")


def _classes(mask: npt.NDArray[np.uint8]) -> list[int]:
    return [OBJECT] if mask.any() else []
