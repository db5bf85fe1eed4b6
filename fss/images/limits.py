"""What a photograph may be."""

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What a picture may be. Checked before its pixels are decoded."""

    max_bytes: int = 64 * 2**20
    """Largest file, in bytes."""
    max_pixels: int = 64_000_000
    """Largest height times width."""
    max_side: int = 32_000
    """Longest side, in pixels."""
    min_side: int = 16
    """Shortest side, in pixels."""

    def as_dict(self) -> dict[str, int]:
        """Return the limits as plain values."""
        return dataclasses.asdict(self)
