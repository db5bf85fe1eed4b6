"""What a photograph may be, and how it may be decoded."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge

from fss.core.config import settings

Decoding = Literal["exact", "fast"]
"""How a photograph becomes a canvas of a training, see :func:`fss.images.canvas.decode_canvas`."""


@settings
class DecodeLimits:
    """Limits that a picture is checked against before its pixels are decoded."""

    max_bytes: Annotated[int, Ge(1)] = 64 * 2**20
    """Largest file, in bytes."""
    max_pixels: Annotated[int, Ge(1)] = 64_000_000
    """Largest height times width."""
    max_side: Annotated[int, Ge(1)] = 32_000
    """Longest side, in pixels."""
    min_side: Annotated[int, Ge(1)] = 16
    """Shortest side, in pixels."""

    def as_dict(self) -> dict[str, int]:
        """Return the limits as plain values."""
        return dataclasses.asdict(self)
