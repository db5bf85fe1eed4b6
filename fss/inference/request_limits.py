"""What a served model accepts in one request, checked before anything is decoded or converted."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from fss.core.config import settings
from fss.images.limits import DecodeLimits
from fss.inference.inputs import are_boxes

SERVER_TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
"""Variable with the seconds that a server gives a request; MLflow sets it in the environment of its servers."""


@settings
class RequestLimits:
    """Limits of a request, which is one query with its supports."""

    max_pixels: Annotated[int, Ge(1)] = DecodeLimits().max_pixels
    """Largest height times width of a picture or mask, encoded or as an array."""
    max_supports: Annotated[int, Ge(1)] = 32
    """Most support pictures."""
    max_hints: Annotated[int, Ge(1)] = 256
    """Most boxes and points of all supports together."""
    max_bytes: Annotated[int, Ge(1)] = 256 * 2**20
    """Most bytes of all pictures and masks together, as they come; a number of an array counts as one byte."""

    def check(self, pictures: Sequence[Any], masks: Sequence[Any], query: Any) -> None:
        """Refuse a request that is too large.

        Raises:
            ValueError: there are too many supports, boxes and points, a picture or mask has too many pixels, or the
                request has too many bytes.
        """
        if max(len(pictures), len(masks)) > self.max_supports:
            raise ValueError(
                f"got {len(pictures)} support pictures and {len(masks)} masks; a request takes at most "
                f"{self.max_supports}"
            )
        if (hints := sum(map(_count_hints, masks))) > self.max_hints:
            raise ValueError(
                f"got {hints} boxes and points; a request takes at most {self.max_hints}. Send a mask instead"
            )
        strokes = [value for mask in masks if isinstance(mask, dict) for value in mask.values()]
        total = 0
        for value in (query, *pictures, *masks, *strokes):
            pixels, numbers = _array_size(value)
            if pixels > self.max_pixels:
                raise ValueError(
                    f"a picture or mask of {pixels:,} pixels is too large; at most {self.max_pixels:,} are allowed. "
                    "Scale it down"
                )
            total += len(value) if isinstance(value, (str, bytes)) else numbers
        if total > self.max_bytes:
            raise ValueError(
                f"the request has {total:,} bytes of pictures and masks; at most {self.max_bytes:,} are allowed. Send "
                "fewer supports, or JPEG or PNG instead of arrays"
            )


def _count_hints(mask: Any) -> int:
    """Return the number of boxes and points that are given in place of a mask."""
    if isinstance(mask, dict):
        values = [mask.get(name) for name in ("boxes", "points", "not_points")]
        return sum(len(value) for value in values if isinstance(value, list | tuple | np.ndarray))
    return len(mask) if are_boxes(mask) else 0


def _array_size(value: Any) -> tuple[int, int]:
    """Return the numbers of pixels and of values of an array or of nested lists [H,W] or [H,W,C]; 0 for others."""
    sides = _sides(value)
    height, width, channels, *_ = [*sides, 1, 1, 1]
    return (height * width, height * width * channels) if len(sides) > 1 else (0, 0)


def _sides(value: Any) -> list[int]:
    """Return the first three lengths of an array or of nested lists, whose rows are as long as the first."""
    sides: list[int] = []
    while isinstance(value, list | tuple | np.ndarray) and len(value) and len(sides) < 3:
        sides.append(len(value))
        value = value[0]
    return sides
