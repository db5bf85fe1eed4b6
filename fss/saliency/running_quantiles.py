"""Quantiles of a stream of numbers in bounded memory."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

EXACT = 1 << 20
"""Numbers up to which quantiles are exact."""
_SHIFT = 12  # bits of a float32 that a bin ignores: 11 bits of the mantissa remain, so a bin is 0.05 % wide


class RunningQuantiles:
    """Quantiles of float32 numbers: exact up to :data:`EXACT` numbers, and to 0.05 % of their value beyond."""

    def __init__(self) -> None:
        self._values: list[npt.NDArray[np.float32]] = []
        self._count = 0
        self._bins: npt.NDArray[np.int64] | None = None

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Add numbers; nan is left out."""
        values = values[~np.isnan(values)]
        self._count += len(values)
        self._values.append(values)
        if self._bins is None and self._count > EXACT:
            self._bins = np.zeros(1 << (32 - _SHIFT), np.int64)
        if self._bins is not None:
            keys, counts = np.unique(_keys(np.concatenate(self._values)), return_counts=True)
            self._bins[keys] += counts
            self._values = []

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the quantiles for some shares, rounded to 4 digits; empty without numbers."""
        if not self._count:
            return []
        if self._bins is None:
            values: npt.NDArray[np.float64] = np.concatenate(self._values).astype(np.float64)
            return [round(float(value), 4) for value in np.quantile(values, shares)]
        ends = np.cumsum(self._bins)
        ranks = np.asarray(shares) * (self._count - 1)
        bins = np.searchsorted(ends, ranks, side="right")
        inside = (ranks - (ends[bins] - self._bins[bins])) / self._bins[bins]
        low, high = _floats(bins), _floats(bins + 1)
        return [round(float(value), 4) for value in low + (high - low) * inside]


def _keys(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the bins of finite or infinite numbers; the order of bins is that of the numbers."""
    bits = values.view(np.uint32).astype(np.int64)
    # Positive floats are ordered like their bits, and negative ones the other way round.
    return np.where(bits < 1 << 31, bits + (1 << 31), (1 << 32) - 1 - bits) >> _SHIFT


def _floats(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the least numbers of some bins."""
    bits = keys.astype(np.int64) << _SHIFT
    bits = np.where(bits >= 1 << 31, bits - (1 << 31), (1 << 32) - 1 - bits)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
